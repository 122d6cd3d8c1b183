"""The chain of audit lines, and what verifying finds when it was touched."""

import fcntl
import gzip
import json
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import pytest

from lapse.audit.chain import Seal, Tail, macs_in, open_seal, parts_at, read
from lapse.audit.verify import NOWHERE, ChainVerdict, Place, Verification, lines_of
from lapse.errors import ConfigError

KEY, OTHER = Seal(b"k" * 32), Seal(b"o" * 32)
PLACE = "openai/thread/3f2a91c0d4e5"


@dataclass
class Log:
    """A file that a mover writes, batch by batch."""

    path: Path
    seal: Seal = KEY
    place: str = PLACE
    tail: Tail | None = None
    at: int = 1_764_315_000_000

    def move(self, count: int = 5, *, confirmed: bool = True) -> bytes:
        """Write a batch; one that was not confirmed is written again by the next call."""
        lines = b"".join(
            b'{"seq":"%d-0","at":1,"event":"settled","id":"t%d"}\n' % (self.at + i, i) for i in range(count)
        )
        sealed, tail = self.seal.lines(lines, self.tail, self.place)
        with self.path.open("ab") as file:
            file.write(sealed)
        if confirmed:
            self.tail, self.at = tail, self.at + count
        return sealed

    @property
    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True)

    def put(self, lines: Sequence[bytes]) -> None:
        self.path.write_bytes(b"".join(lines))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = Log(tmp_path / "audit.jsonl")
    for _ in range(4):
        made.move()
    return made


def verdict(*files: Path, seals: Sequence[Seal] = (KEY,), expected: Sequence[Tail | None] = ()) -> ChainVerdict:
    return Verification(seals, [tail for tail in expected if tail]).verify(files)


def fault(*files: Path, seals: Sequence[Seal] = (KEY,), expected: Sequence[Tail | None] = ()) -> tuple[Place, str]:
    """Return the first thing that is wrong."""
    return verdict(*files, seals=seals, expected=expected).wrong[0]


def test_what_was_written_verifies(log: Log) -> None:
    found = verdict(log.path)

    (chain,) = found.chains
    assert ([], 0, 0, 0) == (found.wrong, found.unsealed, found.cut, found.other)
    assert (1, 20, 20, 0, log.tail) == (chain.first, chain.last, chain.lines, chain.repeated, chain.tail)
    assert (1_764_315_000_000, 1_764_315_000_019) == (chain.since, chain.until)
    assert f"{PLACE}/1764315000000-0/{KEY.name}" == chain.name


def test_a_sealed_line_is_json_with_its_place_behind_what_it_says(log: Log) -> None:
    line = json.loads(log.lines[6])

    assert ["seq", "at", "event", "id", "chain", "n", "mac"] == list(line)
    assert (7, 64) == (line["n"], len(line["mac"]))


def test_every_flipped_bit_of_a_line_is_found_where_it_is(log: Log) -> None:
    """Its newline makes one line of two."""
    lines = log.lines
    for at in range(len(lines[7])):
        for bit in (1, 4, 32):
            changed = bytearray(lines[7])
            changed[at] ^= bit
            log.put([*lines[:7], bytes(changed), *lines[8:]])
            place, what = fault(log.path)
            # A changed number or chain makes it a line that ties to nothing, and a changed mac the next one false too.
            assert Place(0, 8) == place, (at, bit, what)


@pytest.mark.parametrize("cut", [0, 9, 18])
def test_a_line_taken_out_is_missed_at_the_next_one(log: Log, cut: int) -> None:
    lines = log.lines
    log.put(lines[:cut] + lines[cut + 1 :])

    place, what = fault(log.path)

    assert Place(0, cut + 1) == place
    assert what.startswith(f"line {cut + 1} of {PLACE}")
    assert "missing before this line" in what


def test_several_lines_taken_out_are_named_by_their_numbers(log: Log) -> None:
    log.put(log.lines[:3] + log.lines[12:])

    assert f"lines 4 to 12 of {PLACE}" in fault(log.path)[1]


def test_a_gap_across_many_blocks_of_memory_is_measured(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    log.move(2000)
    log.put(log.lines[:256] + log.lines[1500:])

    assert fault(log.path)[1].startswith("lines 257 to 1,500 of ")


def test_every_second_line_taken_out_is_told_in_time(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    log.move(20_000)
    log.put(log.lines[::2])
    began = time.process_time()

    found = verdict(log.path).wrong

    assert [Place(0, line) for line in range(2, 1002)] == [one.place for one in found]
    assert found[-1].what.startswith("line 2,000 of ")
    assert time.process_time() - began < 2


def test_the_end_cut_off_is_missed_by_whoever_kept_it(log: Log) -> None:
    log.put(log.lines[:17])

    assert [] == verdict(log.path).wrong
    place, what = fault(log.path, expected=[log.tail])
    assert NOWHERE == place
    assert what.startswith("lines 18 to 20 of ")
    assert what.endswith("its end was cut off")


def test_an_end_that_was_kept_fits_what_went_on_from_it(log: Log) -> None:
    kept = log.tail
    log.move()

    assert [] == verdict(log.path, expected=[kept]).wrong


def test_old_files_that_are_gone_are_missed_unless_their_end_was_kept(log: Log, tmp_path: Path) -> None:
    kept = log.tail
    log.path = tmp_path / "audit.jsonl.1"
    log.move()

    assert "lines 1 to 20 of" in fault(log.path)[1]
    assert "--expect" in fault(log.path)[1]
    assert [] == verdict(log.path, expected=[kept]).wrong
    wrong_end = kept and kept._replace(mac=bytes(32 * [7]))
    assert "was altered" in fault(log.path, expected=[wrong_end])[1]


def test_a_chain_that_is_gone_or_was_made_anew_is_not_the_expected_one(log: Log, tmp_path: Path) -> None:
    kept = log.tail
    other = Log(tmp_path / "other.jsonl", place="openai/file/3f2a91c0d4e5")
    other.move()
    assert "all of it is missing" in fault(other.path, expected=[kept])[1]

    again = Log(tmp_path / "again.jsonl")
    again.move(21)
    assert "is not the expected one" in fault(again.path, expected=[kept])[1]


def test_two_lines_that_changed_places_are_no_harm_and_two_that_changed_numbers_are(log: Log) -> None:
    """Order is told by the numbers: files of several hosts are in none."""
    lines = log.lines
    log.put([*lines[:7], lines[8], lines[7], *lines[9:]])
    assert [] == verdict(log.path).wrong

    first, second = (read(line.rstrip()) for line in lines[7:9])
    assert first is not None
    assert second is not None
    swapped = [lines[7].replace(first.said, second.said), lines[8].replace(second.said, first.said)]
    log.put([*lines[:7], *swapped, *lines[9:]])
    assert Place(0, 8) == fault(log.path)[0]
    assert "was altered" in fault(log.path)[1]


def test_lines_put_in_are_found(log: Log) -> None:
    lines = log.lines
    bare = b'{"seq":"1764315000007-0","at":1,"event":"settled","id":"t7"}\n'
    log.put([*lines[:7], bare, *lines[7:]])
    assert Place(0, 8) == fault(log.path)[0]
    assert "belongs to no chain" in fault(log.path)[1]

    made_up, _tail = Seal(b"x" * 32).lines(bare, log.tail, PLACE)
    log.put([*lines, made_up])
    assert Place(0, 21) == fault(log.path)[0]


def test_a_batch_that_a_crash_repeats_is_the_same_and_one_that_differs_is_not(log: Log) -> None:
    log.move(confirmed=False)
    log.move()
    found = verdict(log.path)
    assert ([], 25, 5) == (found.wrong, found.chains[0].lines, found.chains[0].repeated)

    log.at += 1000
    fork = Log(log.path, tail=Tail.parse(str(log.tail)), at=log.at)
    fork.move()
    log.at += 1000
    log.move()
    place, what = fault(log.path)
    assert Place(0, 36) == place
    assert "line 26 of" in what
    assert "once more, and another" in what


def test_a_repeated_line_that_was_altered_in_one_place_is_found_there(log: Log) -> None:
    log.move(confirmed=False)
    log.move()
    lines = log.lines
    log.put([*lines[:27], lines[27].replace(b'"t2"', b'"t9"'), *lines[28:]])

    assert (Place(0, 28), True) == (fault(log.path)[0], "was altered" in fault(log.path)[1])


def split(log: Log, tmp_path: Path, name: Callable[[int], int]) -> list[Path]:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for i, path in enumerate(paths):
        path.write_bytes(b"".join(line for n, line in enumerate(log.lines) if name(n) == i))
    return paths


@pytest.mark.parametrize("every", [1, 5, 10])
def test_files_of_several_hosts_are_one_chain_in_any_order(log: Log, tmp_path: Path, every: int) -> None:
    one, two = split(log, tmp_path, lambda n: n // every % 2)

    assert [] == verdict(one, two).wrong == verdict(two, one).wrong
    two.write_bytes(two.read_bytes().replace(b'"t2"', b'"t9"', 1))
    assert "was altered" in fault(one, two)[1]
    assert "was altered" in fault(two, one)[1]


def test_a_file_is_read_as_it_is_between_two_writes(log: Log) -> None:
    """What a mover writes while it is read belongs to the next call."""
    whole = log.move()
    half = log.path.read_bytes().removesuffix(whole) + whole[:-50]
    log.path.write_bytes(half)
    with log.path.open("ab") as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = pool.submit(verdict, log.path)
        assert not wait([found], 0.2).done
        file.write(whole[-50:])
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
        assert ([], 25) == (found.result().wrong, found.result().chains[0].lines)

    lines = lines_of(log.path)
    read_so_far = [next(lines)]
    log.move()
    assert 25 == len([*read_so_far, *lines])


def test_a_million_lines_would_take_less_than_a_minute(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    for _ in range(20):
        log.move(1000)
    began = time.process_time()

    assert [] == verdict(log.path).wrong

    assert time.process_time() - began < 60 * 20_000 / 1_000_000


def test_a_packed_file_is_read(log: Log, tmp_path: Path) -> None:
    packed = tmp_path / "audit.jsonl.1.gz"
    packed.write_bytes(gzip.compress(log.path.read_bytes()))
    log.put([])
    log.move()

    assert [] == verdict(log.path, packed).wrong


def test_a_line_that_a_crash_cut_off_stands_in_whole_elsewhere_or_is_wrong(log: Log, tmp_path: Path) -> None:
    torn = log.move(confirmed=False)[:-100]
    log.put([*log.lines[:20], torn, b"\n"])
    half = log.path.read_bytes()
    assert "is cut off or was altered" in verdict(log.path).wrong[0].what

    log.path = tmp_path / "b.jsonl"
    log.move()
    first = tmp_path / "audit.jsonl"
    for files in ([first, log.path], [log.path, first]):
        assert ([], 1) == (verdict(*files).wrong, verdict(*files).cut)
    first.write_bytes(half.removesuffix(b"\n"))  # nothing was written behind it
    assert ([], 1) == (verdict(first, log.path).wrong, verdict(first, log.path).cut)


UNSEALED = [
    b'{"seq":"1764310000000-0","at":1,"event":"hold"}\n',
    b' {"seq":"1-0","event":"settled"}\n',
    b'{"event":"settled","seq":"1-0"}\n',
    b'{ "seq":"1-0"}\n',
    b'{"\\u0073eq":"1-0","event":"settled"}\n',
    b'a word of celery {"seq":"1-0"}\n',
    b'[{"seq":"1-0"}]\n',
    b'\xef\xbb\xbf{"seq":"1-0"}\n',
]


@pytest.mark.parametrize("line", UNSEALED, ids=range(len(UNSEALED)))
@pytest.mark.parametrize("at", [0, 7, 20])
def test_a_line_that_could_be_taken_for_an_audit_line_and_belongs_to_no_chain_is_named(
    log: Log, line: bytes, at: int
) -> None:
    log.put([*log.lines[:at], line, *log.lines[at:]])

    found = verdict(log.path)

    assert [Place(0, at + 1)] == [wrong.place for wrong in found.wrong]
    assert (1, 0) == (found.unsealed, found.other)


def test_a_whole_file_that_no_chain_vouches_for_is_named_line_by_line(log: Log, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(UNSEALED[0] * 3)

    assert [Place(1, 1), Place(1, 2), Place(1, 3)] == [wrong.place for wrong in verdict(log.path, other).wrong]


def test_other_output_is_counted_and_its_first_line_named(log: Log) -> None:
    log.put([*log.lines[:3], b"\n", b"a word of celery\n", b'{"event":"sweep.finished","id":"x"}\n', *log.lines[3:]])

    found = verdict(log.path)

    assert ([], 0, 2, Place(0, 5)) == (found.wrong, found.unsealed, found.other, found.first_other)


TWO_WAYS = [
    b'{"seq":"%d-0","id":"a","id":"b"}\n',
    b'{"seq":"%d-0","seq":"1-0"}\n',
    b'{"seq":"%d-0","x":NaN}\n',
    b'{"seq":"%d-0","id":"a"}{"id":"b"}\n',
    b'{"seq":"%d-0","chain":"x"}\n',
    b'{"seq":"%d-0","id":"\xff"}\n',
    b'{"seq":"%d-0","id":"\\ud800"}\n',
    b'{"seq":"%d-0","id":"a\rb"}\n',
    b'{"seq":"%d-0","x":1e999}\n',
]


@pytest.mark.parametrize("line", TWO_WAYS, ids=range(len(TWO_WAYS)))
def test_a_sealed_line_that_two_readers_read_in_two_ways_is_named(log: Log, line: bytes) -> None:
    """The seal says that it was written so, and not what it says."""
    sealed, log.tail = log.seal.lines(line % log.at, log.tail, log.place)
    with log.path.open("ab") as file:
        file.write(sealed)
    log.at += 1
    log.move()

    (wrong,) = verdict(log.path).wrong

    assert Place(0, 21) == wrong.place
    assert "not read in one way" in wrong.what


def test_nothing_is_not_taken_for_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"a word of celery\n")

    assert (NOWHERE, True) == (fault(path)[0], "nothing was verified" in fault(path)[1])


def test_many_broken_lines_are_told_up_to_a_limit(log: Log) -> None:
    log.put([*log.lines, *[b'{"seq":"1-0",\n'] * 3000])

    found = verdict(log.path)

    assert Place(0, 21) == found.wrong[0].place
    assert 1000 == len(found.wrong)


def test_another_key_is_not_the_one(log: Log) -> None:
    assert "is sealed with key" in fault(log.path, seals=())[1]
    assert KEY.name in fault(log.path, seals=(OTHER,))[1]


def test_without_a_key_edits_are_found_and_a_chain_made_anew_is_not_taken_for_one_with_a_key(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl", Seal())
    log.move()
    assert [] == verdict(log.path, seals=()).wrong
    assert "anybody could have made it" in fault(log.path)[1]
    log.put([log.lines[0].replace(b"t0", b"t1"), *log.lines[1:]])
    assert "was altered" in fault(log.path, seals=())[1]


def test_another_key_begins_a_chain_that_is_tied_to_the_one_before(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl", Seal())
    log.move()
    for seal in (KEY, OTHER):
        log.seal = seal
        log.move()
    lines = log.lines

    found = verdict(log.path, seals=(KEY, OTHER))
    assert ([], ["sha256", KEY.name, OTHER.name]) == (found.wrong, [chain.key for chain in found.chains])
    assert "is sealed with key" in fault(log.path, seals=(OTHER,))[1]

    log.put([*lines[:9], *lines[10:]])
    assert fault(log.path, seals=(KEY, OTHER))[1].startswith("line 5 of openai/thread/3f2a91c0d4e5/1764315000005-0/")
    log.put(lines[:4] + lines[5:])
    assert "line 5 of" in fault(log.path, seals=(KEY, OTHER))[1]
    log.put(lines[10:])
    assert [] == verdict(log.path, seals=(OTHER,)).wrong


def test_a_crash_while_the_key_changes_repeats_lines_under_the_next_chain(log: Log) -> None:
    log.move(confirmed=False)
    log.seal = OTHER
    log.move()
    assert [] == verdict(log.path, seals=(KEY, OTHER)).wrong

    log.put([*log.lines[:20], *log.lines[25:]])
    stolen = Log(log.path, KEY, tail=verdict(log.path).chains[0].tail, at=log.at + 50)
    stolen.move(1)
    assert "was added to a chain after another had taken its place" in fault(log.path, seals=(KEY, OTHER))[1]


def test_a_chain_whose_end_is_not_what_the_next_one_says_is_wrong(log: Log, tmp_path: Path) -> None:
    log.seal = OTHER
    log.move()
    fork = Log(tmp_path / "fork.jsonl")
    fork.move(21)
    log.put(log.lines[20:])

    assert "which ended otherwise" in fault(fork.path, log.path, seals=(KEY, OTHER))[1]


def test_another_epoch_begins_a_chain_and_a_wiped_registry_one_that_is_tied_to_nothing(log: Log) -> None:
    log.place, log.tail = PLACE.replace("3f", "77"), None
    log.move()

    found = verdict(log.path)

    assert ([], [None, None]) == (found.wrong, [chain.after for chain in found.chains])
    assert ["3f2a91c0d4e5", "772a91c0d4e5"] == [chain.name.split("/")[2] for chain in found.chains]


def test_what_an_application_writes_into_a_line_decides_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path / "audit.jsonl")
    inside = b'{"seq":"1-0","chain":"openai/thread/a/1-0/b","n":7,"mac":"%b"}\n' % (b"0" * 64)
    sealed, _tail = KEY.lines(inside, None, PLACE)
    log.put([sealed])

    (chain,) = verdict(log.path).chains
    assert (1, 1) == (chain.first, chain.last)
    (wrong,) = verdict(log.path).wrong
    assert "not read in one way by everybody: it has 'chain' twice" in wrong.what


def test_tails_are_text_and_back() -> None:
    tail = Tail(f"{PLACE}/1-0/{KEY.name}", 12, bytes(range(32)))

    assert tail == Tail.parse(str(tail))
    for wrong in ("", "x", f"{tail}0", str(tail).replace(":12:", ":x:"), str(tail).replace("openai", "open ai")):
        assert Tail.parse(wrong) is None


def test_a_key_is_bytes_of_a_file_that_not_everybody_reads(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = secrets.token_bytes(32)
    path.write_bytes(key)
    path.chmod(0o640)
    seal = open_seal(str(path))
    assert key == seal.key
    assert repr(key)[2:-1] not in repr(seal)
    assert (16, "sha256") == (len(seal.name), open_seal(None).name)


@pytest.mark.parametrize(
    ("size", "mode", "said"),
    [
        (31, 0o600, "has 31 bytes: a key has 32 to 4096"),
        (0, 0o600, "openssl rand -out"),
        (5000, 0o600, "has 5000 bytes"),
        (32, 0o604, "can be read by everybody: chmod o= "),
    ],
)
def test_a_key_that_is_none_is_refused_with_what_to_do(tmp_path: Path, size: int, mode: int, said: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"s" * size)
    path.chmod(mode)

    with pytest.raises(ConfigError) as refused:
        open_seal(str(path))

    assert said in str(refused.value)
    assert f"[audit] key_file {path}" in str(refused.value)
    assert "sss" not in str(refused.value)


def test_a_key_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        open_seal(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="is not a file"):
        open_seal(str(tmp_path))


def test_what_an_application_wrote_is_taken_for_no_line_of_the_chain() -> None:
    seal = Seal()
    mine, tail = seal.lines(b'{"seq":"1-0","a":1}\n', None, PLACE)
    forged = f'{{"x":1,"chain":"{tail.chain}","n":7,"mac":"{"0" * 64}"}}'
    said = b'{"seq":"2-0","x":%b,"s":%b}\n' % (forged.encode(), json.dumps(forged).encode())
    other, end = seal.lines(said, tail, PLACE)

    assert {1: tail.mac, 2: end.mac} == macs_in(mine + other, tail.chain)
    assert {} == macs_in(mine + other, tail.chain.replace("-0", ".0"))
    assert None is parts_at(mine + other, {})
    assert [None, 1, 0] == [
        parts_at(mine + other, known) for known in ({1: tail.mac}, {1: tail.mac, 2: bytes(32)}, {3: bytes(32)})
    ]
