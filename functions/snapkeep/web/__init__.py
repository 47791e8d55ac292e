"""What is answered over HTTP: the API (`api.py`) and the pages (`pages.py`), one application behind one door."""

from __future__ import annotations

from functools import lru_cache

import flask
from werkzeug.wrappers import Response

from snapkeep.local_sign_in import THIS_MACHINE
from snapkeep.ports import Identities, Ports
from snapkeep.web import api, door, pages


def create_app(ports: Ports, identities: Identities) -> flask.Flask:
    """The whole of it, on these ports, for those whom these identities know."""
    # Its own files are under /assets: /static is taken by the framework's application around this one.
    app = flask.Flask(__name__, static_url_path="/assets", static_folder="assets")
    app.config["MAX_CONTENT_LENGTH"] = door.BODY_BYTES_MAX
    if not identities.verified:
        # Whoever says who he is is believed: no name of another site that leads here may let its pages say so.
        app.config["TRUSTED_HOSTS"] = list(THIS_MACHINE)
    way_in = door.Door(ports, identities)
    app.register_blueprint(pages.blueprint(ports, way_in))
    app.register_blueprint(api.blueprint(ports, way_in))
    api.register_errors(app)

    @app.before_request
    def identify() -> None:
        # Also where no route fits: an unknown path tells nothing to whoever is not known.
        endpoint = flask.request.endpoint
        if endpoint not in door.OPEN:
            route = api.route_of(endpoint)
            flask.g.caller = way_in.identify(route.action if route else pages.action_of(endpoint))

    app.after_request(way_in.leave_form_token)
    app.after_request(pages.harden)
    return app


def answer(request: flask.Request, ports: Ports, identities: Identities) -> Response:
    """The answer to a request that another application, the functions framework's, has received."""
    return Response.from_app(_app(ports, identities), request.environ)


_app = lru_cache(maxsize=1)(create_app)
