"""The id of a request to erase a subject is a UUID, in whatever form it is written."""

import pytest

from lapse import InvalidResource
from lapse.registry.facts import request_id

ID = "7b1c9f0e-52a1-4c57-9d0e-0f6d9a3f4a11"


@pytest.mark.parametrize("written", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_one_uuid_is_one_request_however_it_is_written(written: str) -> None:
    assert ID == request_id(written)


@pytest.mark.parametrize(
    "written", ["", " ", "42", ID[:-1], ID + "0", None, 43, "00000000-0000-0000-0000-000000000000"]
)
def test_what_is_no_uuid_is_refused_and_a_right_one_is_shown(written: object) -> None:
    with pytest.raises(InvalidResource, match=r"give a UUID, such as [0-9a-f-]{36}$"):
        request_id(written)
