"""The stand-in's files, and lapse, at a server that others wrote: CopilotKit's aimock, which has OpenAI's Files API.

Not collected by a plain run, as its name does not begin with test_: ``make test-servers`` names the file. It needs the
``llmock`` program and fails without it. Every step is taken at both servers; where they differ, DIFFERENCES says how.
Of what lapse deletes, aimock serves files alone: everything else is an unknown route to it.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lapse.providers.outcomes import Outcome, after_probe
from lapse.providers.provider import Provider
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import free_port
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from servers.others import SERVERS, Client, account, free, program, running

INSTALL = f"npm install --prefix {SERVERS} @copilotkit/aimock@1.43.0"
KEY = "sk-calibration-0123456789"
UNKNOWN = "file-0000000000000000"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\nhi\n\r\n--x--\r\n'
)

# Name of the step, method, path. {file} and {other} are ids that the server made.
STEPS: tuple[tuple[str, str, str], ...] = (
    ("upload", "POST", "/files"),
    ("upload another", "POST", "/files"),
    ("list", "GET", "/files"),
    ("list one", "GET", "/files?limit=1&order=asc"),
    ("list the next", "GET", "/files?limit=1&order=asc&after={file}"),
    ("list after the last", "GET", "/files?order=asc&after={other}"),
    ("list none", "GET", "/files?limit=0"),
    ("list too many", "GET", "/files?limit=10001"),
    ("list after nothing", "GET", f"/files?after={UNKNOWN}"),
    ("read", "GET", "/files/{file}"),
    ("delete", "DELETE", "/files/{file}"),
    ("delete again", "DELETE", "/files/{file}"),
    ("read deleted", "GET", "/files/{file}"),
    ("delete unknown", "DELETE", f"/files/{UNKNOWN}"),
    ("unknown route", "DELETE", f"/filez/{UNKNOWN}"),
    ("conversation", "DELETE", "/conversations/conv_x"),
)


def made(name: str, *, full: bool) -> dict[str, Any]:
    """Return a file as it is shown once its id has a name and its time none; ``full``: with what may be null."""
    shown = {
        "id": name,
        "object": "file",
        "bytes": 3,
        "created_at": "TIME",
        "filename": "f.txt",
        "purpose": "assistants",
        "status": "processed",
    }
    return shown | ({"expires_at": None, "status_details": None} if full else {})


# Step -> the stand-in, which speaks as OpenAI does, and aimock.
DIFFERENCES: dict[str, tuple[Any, Any]] = {
    "upload": ((200, made("FILE", full=True)), (200, made("FILE", full=False))),
    "upload another": ((200, made("OTHER", full=True)), (200, made("OTHER", full=False))),
    "read": ((200, made("FILE", full=True)), (200, made("FILE", full=False))),
    "list none": (
        (400, "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        (400, "Invalid parameter: 'limit' must be an integer between 1 and 10000"),
    ),
    "list too many": (
        (400, "Invalid 'limit': integer above maximum value. Expected a value <= 10000, but got 10001 instead."),
        (400, "Invalid parameter: 'limit' must be an integer between 1 and 10000"),
    ),
    "list after nothing": (
        (404, f"No such File object: {UNKNOWN}"),
        (400, f"Invalid parameter: 'after' cursor '{UNKNOWN}' does not match any file in this listing"),
    ),
    "delete again": ((404, "No such File object: FILE"), (404, "No such file: FILE")),
    "read deleted": ((404, "No such File object: FILE"), (404, "No such file: FILE")),
    "delete unknown": ((404, f"No such File object: {UNKNOWN}"), (404, f"No such file: {UNKNOWN}")),
    "unknown route": ((404, f"Invalid URL (DELETE /v1/filez/{UNKNOWN})"), (404, "Not found")),
    "conversation": ((404, "Conversation with id 'conv_x' not found."), (404, "Not found")),
}


def walk(client: Client) -> dict[str, Any]:
    """Take every step."""
    names: dict[str, str] = {}
    seen: dict[str, Any] = {}
    for name, method, path in STEPS:
        form = name.startswith("upload")
        given = {"content_type": "multipart/form-data; boundary=x"} if form else {}
        status, said = client.ask(method, path.format(**names), FORM if form else None, **given)
        if form:
            names["other" if names else "file"] = said["id"]
        seen[name] = (status, essence(said, {id_: name.upper() for name, id_ in names.items()}))
    return seen


def essence(said: Any, names: dict[str, str]) -> Any:
    """Return an error's message, the ids and the frame of a list, or an object without its time."""
    if "error" in said:
        message = said["error"]["message"]
        for id_, name in names.items():
            message = message.replace(id_, name)
        return message
    if "data" in said:
        frame = {key: names.get(value, value) for key, value in said.items() if key != "data"}
        return frame | {"data": [names.get(each["id"]) for each in said["data"]]}
    shown = {key: names.get(value, value) if isinstance(value, str) else value for key, value in said.items()}
    return shown | ({"created_at": "TIME"} if "created_at" in shown else {})


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return an aimock server of this run's own."""
    home, port = tmp_path_factory.mktemp("aimock"), free_port()
    llmock = program("llmock", SERVERS / "node_modules" / ".bin", install=INSTALL)
    (home / "fixture.json").write_text('{"fixtures": [{"match": {"userMessage": "x"}, "response": {"content": "x"}}]}')
    command = [llmock, "--port", str(port), "--fixtures", str(home / "fixture.json")]
    client = Client(f"http://127.0.0.1:{port}/v1", {"Authorization": f"Bearer {KEY}"})
    with running(command, client, "/files", home) as server:
        yield server


@pytest.fixture(scope="module")
def walks(aimock: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the stand-in and aimock answered to every step."""
    with Sandbox() as sandbox:
        return walk(Client(sandbox.url, {"Authorization": f"Bearer {KEY}"})), walk(aimock)


@pytest.mark.parametrize("step", [name for name, *_ in STEPS])
def test_both_answer_alike_or_as_is_known(walks: tuple[dict[str, Any], dict[str, Any]], step: str) -> None:
    ours, theirs = walks
    expected = DIFFERENCES.get(step, (ours[step], ours[step]))

    assert (ours[step], theirs[step]) == expected


def test_no_known_difference_is_none() -> None:
    assert DIFFERENCES.keys() <= {name for name, *_ in STEPS}
    assert all(ours != theirs for ours, theirs in DIFFERENCES.values())


@pytest.fixture
async def provider(aimock: Client) -> AsyncIterator[Provider]:
    """Return lapse's own account at aimock, whose words for a missing file are not OpenAI's."""
    there = account("aimock", "openai", aimock.url, "No such file: {id}")
    async with Provider(there, {"KEY": KEY}) as made:
        yield made


def upload(aimock: Client) -> str:
    made: str = aimock.ask("POST", "/files", FORM, content_type="multipart/form-data; boundary=x")[1]["id"]
    return made


async def test_lapse_deletes_a_file_once(aimock: Client, provider: Provider) -> None:
    made, kind = upload(aimock), provider.kinds["file"]

    verdicts = [await delete(Target(provider, kind, made, free)) for _ in range(2)]

    assert [verdict.outcome for verdict in verdicts] == [Outcome.DELETED, Outcome.ALREADY_GONE]
    assert aimock.ask("GET", f"/files/{made}")[0] == 404


async def test_lapse_lists_every_file(aimock: Client, provider: Provider) -> None:
    made = [upload(aimock) for _ in range(30)]

    listing = await provider.listing(provider.kinds["file"], free)

    assert listing.complete
    assert set(made) <= {item.id for item in listing.items}
    assert {"f.txt"} == {item.name for item in listing.items}


async def test_a_kind_that_it_does_not_serve_is_an_endpoint_that_is_missing(provider: Provider) -> None:
    kind = provider.kinds["vector_store"]
    verdict = await delete(Target(provider, kind, "vs_1", free))

    judged = after_probe(kind, verdict, await provider.probe(kind))

    assert (verdict.outcome, judged.outcome) == (Outcome.UNRECOGNISED, Outcome.ENDPOINT_MISSING)
