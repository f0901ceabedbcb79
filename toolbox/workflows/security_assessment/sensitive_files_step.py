"""Files that should not be handed around: keys, credential stores, states and dumps.

A name alone proves little, so every kind below asks for evidence in the content, and the level follows the evidence.
The secret itself is never quoted. A file counts for the first kind that fits it.
"""

import re
from typing import NamedTuple, Optional

import drover_step

READ_MAX_BYTES = 4_000_000
PLACEHOLDER = re.compile(
    rb"""^["']?(?:|\$\{?\w+\}?|\$\(.*\)|<[^>]*>|\{\{.*\}\}|%\w+%|x{3,}|\*{3,}|\.{3,}|null|none|true|false|changeme|"""
    rb"""change[-_ ]?(?:me|this).*|replace.*|your[-_ ].*|todo|dummy|placeholder|example.*|test|secret|password)["']?$""",
    re.IGNORECASE)
KEY_BODY = rb"(?:\r?\n|\\n)(?:[A-Za-z-]+: [^\r\n]*(?:\r?\n|\\n))*\s*[A-Za-z0-9+/=]{40,}"


class Kind(NamedTuple):
    """One kind of file. `content` needs a match; with a group `value`, one that is no placeholder."""
    rule: str
    level: str
    cwe: int
    text: str
    name: Optional[str]
    content: bytes
    each: bool = False


KINDS = [
    Kind("cloud-service-account", "error", 522, "Service account key of a cloud provider", r"\.json$",
         rb'"type"\s*:\s*"service_account"[\s\S]*?"private_key"\s*:\s*"-----BEGIN'),
    Kind("aws-credentials-file", "error", 522, "AWS credentials file", r"(^|/)(\.aws/)?credentials$",
         rb"(?m)^\s*aws_secret_access_key\s*=\s*(?P<value>\S+)"),
    Kind("kubeconfig", "error", 522, "Kubernetes client configuration with credentials", r"(config|\.ya?ml|\.conf)$",
         rb"(?m)^kind:\s*Config\b[\s\S]*?^\s+(?:client-key-data|token|password):\s*(?P<value>\S+)"),
    Kind("docker-registry-credentials", "error", 522, "Registry credentials of a container client",
         r"(\.docker/config\.json|\.dockercfg|\.dockerconfigjson)$", rb'"auth"\s*:\s*"(?P<value>[A-Za-z0-9+/=]{8,})"'),
    Kind("git-credentials", "error", 522, "Stored git credentials", r"(^|/)\.git-credentials$",
         rb"(?m)^https?://[^:/\s]+:(?P<value>[^@\s]+)@"),
    Kind("netrc", "error", 522, "Login data for automatic sign-on", r"(^|/)[._]netrc$", rb"\bpassword\s+(?P<value>\S+)"),
    Kind("pgpass", "error", 522, "PostgreSQL password file", r"(^|/)\.pgpass$",
         rb"(?m)^[^#:\n]+:[^:\n]+:[^:\n]+:[^:\n]+:(?P<value>\S+)"),
    Kind("package-registry-token", "error", 522, "Token of a package registry", r"(^|/)(\.npmrc|\.yarnrc(\.yml)?|\.pypirc)$",
         rb"(?m)^[^#;\n]*(?:_authToken|_auth|_password|npmAuthToken|password)\s*[:=]\s*(?P<value>\S+)"),
    Kind("dotenv-secret", "error", 798, "Secret in an environment file",
         r"(^|/)\.env(?!\.(?:example|sample|template|dist)$)(\.[\w.-]+)?$",
         rb"(?mi)^\s*(?:export\s+)?\w*(?:SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIAL)\w*\s*=[ \t]*"
         rb"(?P<value>[^\r\n#]*)", each=True),
    Kind("putty-private-key", "error", 321, "Unencrypted PuTTY private key", None,
         rb"\APuTTY-User-Key-File-\d[\s\S]*?\nEncryption: none"),
    Kind("private-key", "error", 321, "Unencrypted private key", None,
         rb"-----BEGIN (?:RSA |EC |DSA |OPENSSH )?PRIVATE KEY-----(?!\r?\nProc-Type: 4,ENCRYPTED)" + KEY_BODY),
    Kind("encrypted-private-key", "warning", 321, "Private key behind a pass phrase", None,
         rb"-----BEGIN (?:ENCRYPTED PRIVATE KEY-----|[A-Z]+ PRIVATE KEY-----\r?\nProc-Type: 4,ENCRYPTED|"
         rb"PGP PRIVATE KEY BLOCK-----)"),
    Kind("keystore", "error", 321, "Key store or password database", r"\.(jks|keystore|p12|pfx|kdbx|bcfks)$",
         rb"\A(?:\xfe\xed\xfe\xed|\xce\xce\xce\xce|\x30[\x80-\x84]|\x03\xd9\xa2\x9a)"),
    Kind("keystore-name", "note", 321, "Named like a key store, though its content is something else",
         r"\.(jks|keystore|p12|pfx|kdbx|bcfks)$", rb"\A"),
    Kind("terraform-state-secret", "error", 312, "Terraform state with a secret in clear text", r"\.tfstate(\.backup)?$",
         rb'"\w*(?:password|secret|private_key|access_key|token)\w*"\s*:\s*"(?P<value>[^"]+)"'),
    Kind("terraform-state", "warning", 312, "Terraform state: it describes the infrastructure and often holds secrets",
         r"\.tfstate(\.backup)?$", rb'"terraform_version"\s*:'),
    Kind("password-hashes", "warning", 256, "File of password hashes", r"(^|/)(\.?htpasswd|shadow)$",
         rb"(?m)^[^:\s#]+:(?:\$\w{1,8}\$|\{SHA\})"),
    Kind("database-dump", "warning", 538, "Database dump with rows in it", r"\.(sql|dump|bak|backup)$",
         rb"-- (?:MySQL dump|MariaDB dump|PostgreSQL database dump)[\s\S]*?\n(?:INSERT INTO|COPY )"),
    Kind("shell-history", "note", 538, "Command history of a shell or client",
         r"(^|/)\.(bash|zsh|sh|psql|mysql|python)_history$", rb"\S"),
]
COMPILED = [(kind, re.compile(kind.name) if kind.name else None, re.compile(kind.content)) for kind in KINDS]


def matches(kind, regex, content):
    """The places in a file that prove it is of this kind; one is enough unless every one counts."""
    found = [m for m in regex.finditer(content)
             if "value" not in regex.groupindex or not PLACEHOLDER.match(m.group("value").strip())]
    return found if kind.each else found[:1]


def evidence(match):
    """Where the telling part stands: the value if there is one, else the beginning."""
    return match.start("value") if "value" in match.re.groupindex else match.start()


def examine(step, relative, content):
    for kind, name, regex in COMPILED:
        if name and not name.search(relative):
            continue
        found = matches(kind, regex, content)
        for match in found:
            step.rule(kind.rule, kind.text, kind.cwe)
            line = content.count(b"\n", 0, evidence(match)) + 1
            step.add(kind.rule, kind.level, f"{kind.text}. Keep it out of what is shared, and replace what it protects.",
                     relative, line)
        if found:
            return


def scan(step):
    files = list(step.files())
    for number, (relative, path) in enumerate(files):
        if number % 500 == 0:
            step.progress(100 * number // len(files), f"{number} of {len(files)} files")
        try:
            with open(path, "rb") as file:
                content = file.read(READ_MAX_BYTES)
        except OSError as error:
            step.unanalysed(relative, error.strerror)
            continue
        examine(step, relative, content)


drover_step.main("sensitive_files", scan)
