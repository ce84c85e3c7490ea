"""How tests take part in a study: a browser without script, and a real server in a thread."""

import contextlib
import re
import socket
import threading
import time

import uvicorn
from starlette.testclient import TestClient

from freeu.study.web.secrets import Secrets, hash_password

PASSWORD = "correct horse"
KEYS = Secrets(b"k" * 32, hash_password(PASSWORD))


class Browser(TestClient):
    """Takes part in a study like a browser without script.

    Args:
        app: the application.
        root: the sub-path under which it is offered.
    """

    def __init__(self, app, root="", **changes):
        super().__init__(app, **({"follow_redirects": False, "raise_server_exceptions": False} | changes))
        self.root = root

    def field(self, name, text):
        """The value of a hidden field."""
        return re.search(rf'name="{name}" value="([^"]*)"', text)[1]

    def start(self, **fields):
        """Give consent on the first page."""
        token = self.field("csrf", self.get(f"{self.root}/").text)
        return self.post(f"{self.root}/start", data={"csrf": token, "consent": "yes", "nickname": "", **fields})

    def token(self):
        """The CSRF token of the session."""
        return self.field("csrf", self.get(f"{self.root}/privacy").text)

    def state(self):
        return self.get(f"{self.root}/api/state").json()

    def vote(self, choice="left", seconds=1.5, **changes):
        """Vote as the script does, for the current task unless another is named."""
        task = self.state()["task"]
        body = {"task": task["task"], "revision": task["revision"], "choice": choice, "seconds": seconds, **changes}
        return self.post(f"{self.root}/api/vote", json=body, headers={"x-csrf-token": self.token()})

    def undo(self, **changes):
        body = {**self.state()["undo"], **changes}
        return self.post(f"{self.root}/api/undo", json=body, headers={"x-csrf-token": self.token()})

    def log_in(self, password=PASSWORD):
        token = self.field("csrf", self.get(f"{self.root}/admin/login").text)
        return self.post(f"{self.root}/admin/login", data={"csrf": token, "password": password})


@contextlib.contextmanager
def served(app, **settings):
    """The address of an application behind a real server in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", **settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
