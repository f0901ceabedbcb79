"""The rig with everything locked: Nomad with ACLs and TLS, Consul on https too, all under a CA of its own."""

import os
import ssl
import subprocess

from . import http
from .consul import Consul
from .nomad import Nomad
from .process import environment
from .rig import Rig

# Nomad asks of a client's certificate that it names a role and a region; Consul and Drover ask for the address.
NAMES = "DNS:localhost,IP:127.0.0.1,DNS:server.global.nomad,DNS:client.global.nomad"


class Authority:
    """A CA in a folder: ca.pem, and pairs of certificate and key that it signed."""

    def __init__(self, rig, name="ca"):
        self.rig = rig
        self.folder = os.path.join(rig.folder, f"tls-{name}")
        os.mkdir(self.folder)
        self.ca = self._path("ca.pem")
        self._openssl("req", "-x509", *self._key("ca-key.pem"), "-subj", f"/CN=rig {name}", "-days", "2", "-out", self.ca)
        self.cert, self.key = self.pair("agent", NAMES)

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _key(self, name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self._path(name))

    def _openssl(self, *args):
        done = subprocess.run(["openssl", *args], env=environment(self.rig), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def pair(self, name, names):
        """(certificate, key) with these subject alternative names."""
        cert, key, request = (self._path(name + end) for end in (".pem", "-key.pem", ".csr"))
        extensions = self._path(name + ".ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl("req", *self._key(name + "-key.pem"), "-subj", f"/CN={name}", "-out", request)
        signer = ("-CA", self.ca, "-CAkey", self._path("ca-key.pem"), "-CAcreateserial", "-days", "2", "-extfile", extensions)
        self._openssl("x509", "-req", "-in", request, *signer, "-out", cert)
        return cert, key

    def context(self):
        """For the test's own calls."""
        made = ssl.create_default_context(cafile=self.ca)
        made.load_cert_chain(self.cert, self.key)
        return made


class SecureConsul(Consul):
    """The plain port stays, for Nomad's agents; https is the port that Drover is given."""

    def __init__(self, rig):
        super().__init__(rig)
        self.ports["https"] = rig.ports.take()

    @property
    def secure_address(self):
        return f"127.0.0.1:{self.ports['https']}"

    def config(self):
        authority = self.rig.authority
        https = {"ca_file": authority.ca, "cert_file": authority.cert, "key_file": authority.key, "verify_incoming": True}
        return {**super().config(), "tls": {"https": https}}


class SecureNomad(Nomad):
    """An agent that speaks https to holders of a certificate, and asks for tokens."""

    @property
    def url(self):
        return f"https://{self.address}"

    def call(self, method, path, **options):
        """As the holder of the bootstrap token, unless headers say otherwise."""
        headers = {"X-Nomad-Token": self.rig.management_token, **(options.pop("headers", None) or {})}
        return http.call(method, self.url + path, headers=headers, tls=self.rig.tls, **options)

    def cli_env(self, namespace=None):
        return {**super().cli_env(namespace), **self.rig.nomad_tls(), "NOMAD_TOKEN": self.rig.management_token}

    def _config(self):
        authority = self.rig.authority
        return {
            **super()._config(),
            "acl": {"enabled": True},
            "tls": {
                "http": True,
                "rpc": True,
                "ca_file": authority.ca,
                "cert_file": authority.cert,
                "key_file": authority.key,
                "verify_server_hostname": True,
                "verify_https_client": True,
            },
        }

    def is_ready(self):
        if not self.rig.management_token and not self.server:
            answer = self.call("POST", "/v1/acl/bootstrap")
            if answer.status != 200:
                return False
            self.rig.management_token = answer.json()["SecretID"]
        return super().is_ready()

    def apply_policy(self, name, rules, namespace=None, job=None):
        """As an operator does it: nomad acl policy apply. The rules may be replaced later."""
        to_job = ("-namespace", namespace, "-job", job) if job else ()
        self.cli("acl", "policy", "apply", *to_job, name, "-", input=rules)

    def make_token(self, *policies):
        """The secret of a new token with these policies."""
        body = {"Name": "rig", "Type": "client", "Policies": list(policies)}
        return self.call("POST", "/v1/acl/token", json=body).expect(200).json()["SecretID"]


class SecureRig(Rig):
    make_consul, make_nomad = SecureConsul, SecureNomad

    def __init__(self, keep=False):
        super().__init__(keep)
        self.authority = Authority(self)
        self.tls = self.authority.context()
        self.management_token = ""

    def nomad_tls(self):
        authority = self.authority
        return {
            "NOMAD_ADDR": self.nomad.url,
            "NOMAD_CACERT": authority.ca,
            "NOMAD_CLIENT_CERT": authority.cert,
            "NOMAD_CLIENT_KEY": authority.key,
        }

    def consul_tls(self):
        authority = self.authority
        return {
            "CONSUL_HTTP_ADDR": self.consul.secure_address,
            "CONSUL_HTTP_SSL": "true",
            "CONSUL_CACERT": authority.ca,
            "CONSUL_CLIENT_CERT": authority.cert,
            "CONSUL_CLIENT_KEY": authority.key,
        }

    def env(self):
        """No token: who may do what is for each story to say."""
        return {**super().env(), **self.nomad_tls()}
