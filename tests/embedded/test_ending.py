"""The dispatcher alone: how it ends beside a Consul that does not answer."""

import http.server
import threading
import time

from alone import Dispatcher, wait_for


class Consul(http.server.BaseHTTPRequestHandler):
    """Takes registrations and never answers a farewell."""

    registered = threading.Event()
    silence = threading.Event()

    def do_PUT(self):
        if "deregister" in self.path:
            self.silence.wait(20)
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.registered.set()

    def log_message(self, *_):
        pass


def test_a_silent_consul_holds_the_end_up_for_a_second_at_most(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Consul)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    took = []
    while min(took, default=2) >= 1.6 and len(took) < 4:  # a loaded machine may add to it, but not each time
        folder = tmp_path / str(len(took))
        folder.mkdir()
        d = Dispatcher(folder, CONSUL_HTTP_ADDR=f"127.0.0.1:{server.server_port}")
        wait_for(Consul.registered.is_set)
        wait_for(lambda: "registered as" in (folder / "log").read_text())
        began = time.monotonic()
        assert d.stop() == 0
        took.append(time.monotonic() - began)
    Consul.silence.set()
    server.shutdown()
    server.server_close()
    assert min(took) < 1.6, "a tenth for the last answers, less than a second for Consul"
