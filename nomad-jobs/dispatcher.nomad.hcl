# The dispatcher as a Nomad service: one instance, its ledger on a host volume that pins it to the nodes that have it.
#
#   nomad job run -var image=drover/dispatcher:0.1.0 -var s3_endpoint=consul://minio dispatcher.nomad.hcl
#
# Before: a host volume "drover-ledger" on a client, the variable nomad/jobs/drover-dispatcher with S3_ACCESS_KEY and
# S3_SECRET_KEY, and with ACLs on the policy acl/dispatcher.policy.hcl. docs/NOMAD.md tells each step.

variable "namespace" {
  type    = string
  default = "default"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "driver" {
  type    = string
  default = "docker"
  validation {
    condition     = var.driver == "docker" || var.driver == "raw_exec"
    error_message = "The driver must be docker or raw_exec."
  }
}

variable "image" {
  type    = string
  default = ""
}

variable "command" {
  type    = string
  default = "/usr/local/bin/drover-dispatcher"
}

variable "port" {
  type    = number
  default = 8700
}

# Host volume for the ledger; without one (raw_exec only) the folder data_dir of the node.
variable "ledger_volume" {
  type    = string
  default = "drover-ledger"
}

variable "data_dir" {
  type    = string
  default = "/var/lib/drover"
}

variable "share_dir" {
  type    = string
  default = "/usr/local/share/drover"
}

variable "s3_endpoint" {
  type = string
}

variable "consul_addr" {
  type    = string
  default = ""
}

# Empty: workers find the dispatcher through Consul.
variable "advertise" {
  type    = string
  default = "consul://drover-dispatcher"
}

# More settings of the dispatcher; docs/CONFIG.md lists them.
variable "env" {
  type    = map(string)
  default = {}
}

variable "cpu" {
  type    = number
  default = 500
}

variable "memory" {
  type    = number
  default = 256
}

# "consul" or "nomad": where the service is registered.
variable "service_provider" {
  type    = string
  default = "consul"
}

locals {
  is_docker = var.driver == "docker"
  volumes   = var.ledger_volume != "" ? [var.ledger_volume] : []
  settings = {
    DROVER_LISTEN          = "0.0.0.0:${var.port}"
    DROVER_ADVERTISE       = var.advertise
    DROVER_DATA_DIR        = var.data_dir
    DROVER_TOOLBOX         = "${var.share_dir}/toolbox"
    DROVER_JOBS_DIR        = "${var.share_dir}/nomad-jobs"
    DROVER_NOMAD           = "on"
    DROVER_CONSUL_REGISTER = "false" # the service block below does it
    NOMAD_NAMESPACE        = var.namespace
    S3_ENDPOINT            = var.s3_endpoint
    CONSUL_HTTP_ADDR       = var.consul_addr
  }
}

job "drover-dispatcher" {
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters
  priority    = 80

  group "dispatcher" {
    # The ledger has one writer. A second instance would only wait for its lock.
    count = 1

    # The old one has let go of the ledger before a new one needs it; a node that is cut off keeps its instance.
    disconnect {
      lost_after = "24h"
      replace    = false
      reconcile  = "keep_original"
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    network {
      mode = "host"
      port "http" {
        static = var.port
      }
    }

    dynamic "volume" {
      for_each = local.volumes
      labels   = ["ledger"]
      content {
        type   = "host"
        source = volume.value
      }
    }

    service {
      name     = "drover-dispatcher"
      provider = var.service_provider
      port     = "http"
      check {
        type     = "http"
        path     = "/v1/agent/health"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "dispatcher" {
      driver       = var.driver
      user         = local.is_docker ? "65534:65534" : ""
      kill_signal  = "SIGTERM"
      kill_timeout = "20s"
      env = merge(local.settings, {
        # The task's own door to Nomad: no address, no TLS files, no token to hand out.
        NOMAD_ADDR = "unix://$${NOMAD_SECRETS_DIR}/api.sock"
      }, var.env)

      dynamic "config" {
        for_each = local.is_docker ? [1] : []
        content {
          image           = var.image
          entrypoint      = [var.command]
          network_mode    = "host"
          init            = true
          readonly_rootfs = true
          cap_drop        = ["all"]
          security_opt    = ["no-new-privileges"]
          pids_limit      = 256
          mount {
            type   = "tmpfs"
            target = "/tmp"
            tmpfs_options {
              size = 67108864
            }
          }
        }
      }

      dynamic "config" {
        for_each = var.driver == "raw_exec" ? [1] : []
        content {
          command = var.command
        }
      }

      dynamic "volume_mount" {
        for_each = local.is_docker ? local.volumes : []
        content {
          volume      = "ledger"
          destination = var.data_dir
        }
      }

      template {
        destination = "$${NOMAD_SECRETS_DIR}/s3.env"
        env         = true
        perms       = "0600"
        change_mode = "restart"
        data        = <<-EOT
        {{ with nomadVar "nomad/jobs/drover-dispatcher" }}
        S3_ACCESS_KEY={{ .S3_ACCESS_KEY }}
        S3_SECRET_KEY={{ .S3_SECRET_KEY }}
        {{ end }}
        EOT
      }

      # NOMAD_TOKEN; its rights are those of the policy that is attached to this job.
      identity {
        env = true
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }
    }
  }
}
