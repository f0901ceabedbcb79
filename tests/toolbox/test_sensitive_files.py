"""Every kind of sensitive file: one that is reported at its level, and a look-alike that is not."""

import base64

import pytest

from steps import CLEAN, FINDINGS, run_step

BODY = base64.b64encode(bytes(range(48))).decode()


def key(kind, head=""):
    """Put together here, so that this file holds nothing that looks like a key."""
    return f"-----BEGIN {kind}-----\n{head}{BODY}\n-----END {kind}-----\n"


CASES = [  # rule, level, file, content that proves it, content that does not
    ("cloud-service-account", "error", "sa.json",
     '{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----x"}', '{"type": "service_account"}'),
    ("aws-credentials-file", "error", ".aws/credentials", "aws_secret_access_key = q8Zk2LmQ9x\n",
     "aws_secret_access_key = <yours>\n"),
    ("kubeconfig", "error", "kube/config", "kind: Config\nusers:\n- user:\n    token: q8Zk2LmQ9x\n", "kind: Config\nusers: []\n"),
    ("docker-registry-credentials", "error", ".docker/config.json", '{"auths": {"r": {"auth": "dXNlcjpwYXNz"}}}', '{"auths": {}}'),
    ("git-credentials", "error", ".git-credentials", "https://joe:q8Zk2LmQ9x@example.com\n", "https://example.com\n"),
    ("netrc", "error", ".netrc", "machine a login b password q8Zk2LmQ9x\n", "machine a login b\n"),
    ("pgpass", "error", ".pgpass", "db:5432:shop:joe:q8Zk2LmQ9x\n", "# host:port:db:user:pw\n"),
    ("package-registry-token", "error", ".npmrc", "//r.example.com/:_authToken=q8Zk2LmQ9x\n",
     "//r.example.com/:_authToken=${NPM_TOKEN}\n"),
    ("dotenv-secret", "error", ".env.production", "export API_KEY=q8Zk2LmQ9x\n", "API_KEY=changeme\nHOST=a\n"),
    ("putty-private-key", "error", "a.ppk", "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n",
     "PuTTY-User-Key-File-3: ssh-rsa\nEncryption: aes256-cbc\n"),
    ("private-key", "error", "id_rsa", key("RSA PRIVATE" + " KEY"), key("PUBLIC KEY")),
    ("encrypted-private-key", "warning", "id_rsa", key("RSA PRIVATE" + " KEY", "Proc-Type: 4,ENCRYPTED\n\n"),
     key("CERTIFICATE")),
    ("keystore", "error", "app.jks", "\xfe\xed\xfe\xed\x00", None),
    ("keystore-name", "note", "app.p12", "just text", None),
    ("terraform-state-secret", "error", "a.tfstate", '{"terraform_version": "1", "db_password": "q8Zk2LmQ9x"}', "{}"),
    ("terraform-state", "warning", "a.tfstate", '{"terraform_version": "1", "db_password": ""}', "{}"),
    ("password-hashes", "warning", ".htpasswd", "joe:$apr1$abc$def\n", "# joe\n"),
    ("database-dump", "warning", "a.sql", "-- MySQL dump 10\n\nINSERT INTO users VALUES (1);\n", "-- MySQL dump 10\n"),
    ("shell-history", "note", ".bash_history", "ls\n", "\n"),
]


def scan(folder, name, content):
    path = folder / "target" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    return run_step("security_assessment", "sensitive_files", folder / "target", folder / "run")


@pytest.mark.parametrize("rule, level, name, content, harmless", CASES, ids=[case[0] for case in CASES])
def test_kind(rule, level, name, content, harmless, tmp_path):
    outcome = scan(tmp_path / "bad", name, content)
    results = outcome.report["runs"][0]["results"]
    assert outcome.code == FINDINGS and [(r["ruleId"], r["level"]) for r in results] == [(rule, level)]
    if harmless is not None:
        assert scan(tmp_path / "good", name, harmless).code == CLEAN
    assert "q8Zk2LmQ9x" not in str(outcome.report) + outcome.log
