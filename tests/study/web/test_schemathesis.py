"""The application against its own OpenAPI document: no input breaks it, and every answer is one that it declares."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from study.handmade import make_study
from study.webapp import KEYS, Browser

from freeu.study.store.database import database_url
from freeu.study.store.store import Store
from freeu.study.web.app import create_app
from freeu.study.web.limits import RATES, Rate

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """An application, and the cookies of somebody who takes part and is the administrator as well."""
    study = make_study(tmp_path_factory.mktemp("api") / "study", slots=40)
    plenty = {name: Rate(1e9, 1e9) for name in RATES}
    with Store(database_url(study.path), study.plan) as store:
        app = create_app(study, store, KEYS, rates=plenty)
        browser = Browser(app)
        browser.start()
        browser.log_in()
        browser.tokens = [browser.token(), browser.field("csrf", browser.get("/admin").text)]
        yield app, browser


def test_no_input_breaks_it(taken):
    app, browser = taken
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 20
    statuses = {try_out(operation, browser) for operation in operations}
    assert len(statuses) == len(operations)
    reached = set().union(*(found for _, found in statuses))
    assert {200, 303, 403, 404, 409, 422} <= reached  # deep enough to be worth something


def try_out(operation, browser):
    """Send what fits the document and what does not; the name of the operation and the statuses of its answers."""
    seen = set()

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    def run(case):
        ending = operation.path in ("/forget", "/admin/logout")  # these would end the sessions
        headers = {} if ending else {"x-csrf-token": browser.tokens[operation.path.startswith("/admin/")]}
        answer = case.call(headers=headers, cookies=dict(browser.cookies.items()))
        case.validate_response(answer, checks=CHECKS)
        seen.add(answer.status_code)

    run()
    return f"{operation.method} {operation.path}", frozenset(seen)
