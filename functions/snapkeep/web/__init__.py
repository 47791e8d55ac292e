"""What is answered over HTTP: the API (`api.py`) and the pages (`pages.py`), in one Flask application.

Read-only, and whoever reaches it may read everything: who that is, is decided in front of it (IAM or IAP) until the
door for people is built.
"""

from __future__ import annotations

from functools import lru_cache

import flask
from werkzeug.wrappers import Response

from snapkeep.ports import Ports
from snapkeep.web import api, pages


def create_app(ports: Ports) -> flask.Flask:
    """The whole of it, on these ports."""
    # Its own files are under /assets: /static is taken by the framework's application around this one.
    app = flask.Flask(__name__, static_url_path="/assets", static_folder="assets")
    app.register_blueprint(pages.blueprint(ports))
    app.register_blueprint(api.blueprint(ports))
    api.register_errors(app)
    app.after_request(pages.harden)
    return app


def answer(request: flask.Request, ports: Ports) -> Response:
    """The answer to a request that another application, the functions framework's, has received."""
    return Response.from_app(_app(ports), request.environ)


_app = lru_cache(maxsize=1)(create_app)
