resource "aws_security_group" "web" {
  ingress {
    from_port   = 22
    to_port     = 22
    protocol    = "tcp"
    # ruleid: terraform-open-ingress
    cidr_blocks = ["0.0.0.0/0"]
  }
  egress {
    # ok: terraform-open-ingress
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_s3_bucket_acl" "site" {
  # ruleid: terraform-public-bucket
  acl = "public-read"
}

resource "aws_s3_bucket_acl" "logs" {
  # ok: terraform-public-bucket
  acl = "private"
}

resource "aws_ebs_volume" "data" {
  # ruleid: terraform-unencrypted-storage
  encrypted = false
}

resource "aws_ebs_volume" "safe" {
  # ok: terraform-unencrypted-storage
  encrypted = true
}
