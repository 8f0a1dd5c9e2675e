"""Explores all interleavings of a few processes on a model of Memcached and of the database.

The processes are the real coroutines, driven by hand. At each await on the model, another
process may continue. The next step of a coroutine depends only on the answers that it has
received. So each coroutine runs once for each sequence of answers, and the search covers a graph
of states. A state is the place of each process, the contents of the model, and the oldest
versions that a new reader may still return.

A fault is a step, too: a state has one successor for each process that can continue, and one for
each fault that can happen there, while the exploration has faults left.

Time is abstract in most explorations: a tombstone expires once none of its writers is active. A
process that ticks makes time countable: times to live are ticks, and a writer commits before its
own ticks are over. Only a fault pauses a writer for longer. There, a commit while a reader may
use the key is a violation at once, so that fewer readers are needed.

With an election, the database has two primaries from then on. The old one does not know it: it
returns what was committed before, and commits nothing. The new one may return the version before
that until its first commit. A process that is cut off reaches the old one alone.
Every other process may use it, too, until its driver learns of the election.

The explorer also checks the liveness of every state in which no process can continue. A write
that ended has left no mark of its own, and reads soon hit although a new write starts in each
tick.
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from operator import getitem, length_hint
from types import MethodType, coroutine
from typing import Any, Generic, NamedTuple, TypeVar

from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.lease_cache.commands import Held, Put
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry, Tombstone, decode
from tornado_members.lease_cache.epochs import Lifetimes
from tornado_members.lease_cache.errors import NodeUnavailable, StoreUnavailable
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import HIT
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.terms import TermFence

KEY, EPOCH, QUARANTINE, CLOCK = b"k", b"epoch", b"quarantine", b"clock"
OTHER = b"o"  # a second key for batches, whose version is always 1
LIST = b"-" + b"0" * 16  # behind each epoch: the id of the list of servers
_ROUNDS = 12  # of the liveness check: more than every lifetime in use, in ticks

T = TypeVar("T")
Op = tuple[Any, ...]
Row = tuple[tuple[int, Any], ...]  # answers, each with the number of the coroutine that received it
Label = tuple[Any, ...]  # describes a step for the report
Routine = Coroutine[Any, Any, None]
_ROWS_CHECKED = 4
_ATOMS = frozenset({int, bytes, str, bool, type(None)})
FAILED = "failed"  # the answer to a command that raises NodeUnavailable
REFUSED = "refused"  # by a primary without a majority; raises StoreUnavailable
DEAD = "dead"  # ends the coroutine: its process has died
UNKNOWN = "unknown"  # the answer to a commit whose outcome is unknown
TOO_LATE = "too late"  # the answer to a commit that was not sent because its deadline had passed
BLOCKED: Op = ("blocked",)
DONE: Op = ("done",)
# The method that executes each operation.
_METHODS = {
    verb: "_" + verb.replace(" ", "_")
    for verb in (
        *("find", "commit", "noticed", "abandon", "mark stale", "answers again", "is read again"),
        *("starts", "tick", "has ended", "replies"),
        *("load", "commit in", "acknowledge", "monitor", "give up"),
        *("get", "gets", "put"),
    )
}


@coroutine
def do(*op: Any) -> Any:
    """Yield an operation, which the explorer executes now or later."""
    return (yield op)


class ModelNode:
    """Stands in for a Memcached node. The keys of one request are separate steps."""

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {}
        for key in keys:
            value = await do("get", key)
            if value is not None:
                found[key] = value
        return found

    async def get_entries(
        self, before: Sequence[bytes], keys: KeyList
    ) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        return await self.get_many(before), await self.get_many([*keys])

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, Held]:
        found = {}
        for key in keys:
            held = await do("gets", key)
            if held is not None:
                found[key] = held
        return found

    async def put_many(self, puts: Sequence[Put]) -> list[int]:
        done = []
        for put in puts:
            stored = await do("put", *put[:4])
            if stored and put.wants_token:
                # It is of the same request, but other clients may be in between.
                held = await do("gets", put.key)
                stored = held.token if held and held.value == put.value else 0
            done.append(int(stored))
        return done

    async def set(self, key: bytes, value: bytes, ttl: int) -> None:
        await do("put", key, value, ttl, "whatever was there")

    async def delete(self, key: bytes) -> bool:
        return bool(await do("put", key, b"", 0, "whatever was there"))


class Nonces:
    """Nonces of one process, the same in every run."""

    def __init__(self, name: str) -> None:
        self._name = name.encode().hex().encode()
        self.used = 0

    def word(self) -> bytes:
        self.used += 1
        return b"%b%012x" % (self._name, self.used)


def protocol_of(
    name: str,
    kind: type[LeaseProtocol] = LeaseProtocol,
    lifetime: int = 1,
    fence: TermFence | None = None,
) -> LeaseProtocol:
    """The protocol of one process; `lifetime` is the time to live of its tombstones, in ticks."""
    return kind(
        ModelNode(),
        fence=fence,
        namespace=b"",
        lifetimes=Lifetimes(entry=1, lease=1, tombstone=lifetime, quarantine=lifetime),
        counts=CacheCounts(),
        word=Nonces(name).word,
    )


async def load() -> Entry:
    """Read the version that a majority of the database nodes holds."""
    return Entry(await do("find"), b"-", b"")


class ModelTerms:
    """The driver of one process, and the term of the newest primary that it knows."""

    def __init__(self, term: int = 1) -> None:
        self._term = term

    def current(self) -> int:
        return self._term

    def has_rivals(self) -> bool:
        return True

    async def acknowledged(self) -> int:
        self._term = await do("acknowledge")
        return self._term

    async def load(self) -> Entry:
        """Read from the primary that the driver uses, of whose election it may learn meanwhile."""
        version, self._term = await do("load", self._term)
        self._term = await do("monitor", self._term)
        return Entry(version, b"-", b"")

    async def commit(self) -> int:
        version, self._term = await do("commit in", self._term)
        return int(version)


async def load_many(keys: Sequence[bytes]) -> list[Entry | None]:
    """Read one or both keys by one query, in which each document is read at a moment of its own."""
    entries: list[Entry | None] = []
    for key in keys:
        entry = await load() if key == KEY else Entry(1, b"-", OTHER)
        entries.append(entry)
    return entries


@dataclass
class Process:
    """The coroutines of one process, which share its state."""

    name: str
    start: Callable[[], list[Routine]]
    is_writer: bool = False
    kind: type[LeaseProtocol] = LeaseProtocol  # the protocol that the liveness check runs
    lifetime: int = 1
    is_batch: bool = False  # it uses the tokens of several keys at once
    is_cut: bool = False  # it reaches the old primary alone


class Quarantine(NamedTuple):
    """The stored value that keeps every reader from the node."""

    value: bytes
    ttl: int
    # The writers that were active when it began, and may have lost their tombstones.
    writers: frozenset[str]

    @property
    def token(self) -> int:
        """A number that differs after each renewal."""
        return 1000 * int(self.value.partition(b"-")[0]) + self.ttl


class World(NamedTuple):
    """The model, and the versions that a reader that begins now must not miss."""

    epoch: bytes | None = b"0" * 16 + LIST
    quarantine: Quarantine | None = None
    item: Held | None = None
    other: Held | None = None  # under OTHER
    recurring: frozenset[int] = frozenset()  # tokens from before a restart: they may recur
    committed: int = 1  # the version in the database
    answered: int = 1  # the newest version whose write was acknowledged
    seen: int = 1  # the newest version that a read returned, or that was acknowledged
    away: str = ""  # "away" | "back": it answers, but is not read yet
    pending: frozenset[str] = frozenset()  # writers whose tombstones are still to be set
    stale: bool = False
    undecided: frozenset[str] = frozenset()  # commits of dead writers that may still happen
    ended: frozenset[str] = frozenset()  # writers that have removed their marks, or tried to
    excused: bool = False  # a mark may remain: its writer died, or could not remove it
    time_left: frozenset[tuple[str, int]] = frozenset()  # ticks in which each writer must commit
    clock: int = 100  # the seconds that the value under CLOCK has left
    faults: int = 1
    elections: int = 0  # that may still happen
    deposed: int = 0  # the version that the old primary returns; 0 before the election
    lagging: int = 0  # the version that the new one returns until its first commit; 0 afterwards


# For each coroutine of a process, the versions that its read must not miss.
Floors = tuple[tuple[int, int] | None, ...]


class State(NamedTuple):
    """The world, and the place of each process in its behaviour."""

    world: World
    places: tuple[int, ...]  # of each process, in its Behaviour
    floors: tuple[Floors, ...]  # of each process


# A state as the search stores it: the number of its world, and of the seat of each process.
Node = tuple[int, ...]
Seat = tuple[int, Floors]  # the place and the floors of a process
Move = tuple[Label, int, int]  # with the numbers of the world and of the seat after it


class Numbers(Generic[T]):
    """Gives each value a number. Numbers are compared and hashed faster than states."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._known: dict[T, int] = {}

    def of(self, value: T) -> int:
        number = self._known.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


def _in_world(state: State, world: World) -> State:
    """Return the same places in another world; _replace takes three times as long."""
    return State(world, state.places, state.floors)


def _with_floor(state: State, number: int, index: int, floor: tuple[int, int] | None) -> State:
    """Return the state with other versions that a coroutine of a process must not miss."""
    own = state.floors[number]
    own = (*own[:index], floor, *own[index + 1 :])
    floors = (*state.floors[:number], own, *state.floors[number + 1 :])
    return State(state.world, state.places, floors)


_decoded = cache(partial(decode, KEY))


class Behaviour:
    """The next operations of a process, after each sequence of answers that it may receive.

    Sequences that lead to the same instructions with the same variables are one place. The
    explorer checks this on some sequences of each place: each answer must lead to one place again.
    """

    def __init__(self, process: Process) -> None:
        self._start = process.start
        self._is_batch = process.is_batch
        self._rows: list[list[Row]] = []
        self._known: dict[Any, int] = {}
        self._steps: dict[tuple[int, int, Any], int] = {}
        self.pending: list[tuple[Op, ...]] = []
        self.tokens: list[frozenset[int]] = []  # those that the process may still use
        self._place(())

    def after(self, place: int, index: int, answer: Any) -> int:
        """Return the place of the process after its coroutine `index` has received an answer."""
        step = (place, index, answer)
        if step not in self._steps:
            places = {self._place((*row, (index, answer))) for row in self._rows[place]}
            assert len(places) == 1, f"{self._rows[place]} are not one place"
            self._steps[step] = places.pop()
        return self._steps[step]

    def _place(self, row: Row) -> int:
        pending, variables = self._run(row)
        over = all(op == DONE for op in pending)
        identity = (pending, None if over else variables or row)
        place = self._known.setdefault(identity, len(self.pending))
        if place == len(self.pending):
            self.pending.append(pending)
            self.tokens.append(frozenset() if over else _tokens(row, all_of_them=self._is_batch))
            self._rows.append([row])
        elif len(self._rows[place]) < _ROWS_CHECKED and row not in self._rows[place]:
            self._rows[place].append(row)
        return place

    def _run(self, row: Row) -> tuple[tuple[Op, ...], Any]:
        routines = self._start()
        pending = [_go_on(routine, None) for routine in routines]
        for index, answer in row:
            pending[index] = _go_on(routines[index], answer)
            self._unblock(routines, pending)
        variables = _variables(routines[0]) if len(routines) == 1 else None
        for routine in routines:
            routine.close()
        return tuple(BLOCKED if isinstance(op, asyncio.Future) else op for op in pending), variables

    @staticmethod
    def _unblock(routines: list[Routine], pending: list[Any]) -> None:
        """Continue the coroutines whose future another coroutine of the process has settled."""
        settled = True
        while settled:
            settled = False
            for index, op in enumerate(pending):
                if isinstance(op, asyncio.Future) and op.done():
                    pending[index] = _go_on(routines[index], None)
                    settled = True


def _tokens(row: Row, *, all_of_them: bool) -> frozenset[int]:
    """Return the tokens that may still be used: each is used for one put only.

    A process that has those of several keys at once may still use `all_of_them`.
    """
    tokens: set[int] = set()
    for _, answer in row:
        if isinstance(answer, bool):
            tokens = tokens if all_of_them else set()
        elif isinstance(answer, tuple):
            tokens.add(answer[1])
    return frozenset(tokens)


def _variables(routine: Any) -> tuple[Any, ...]:
    """The instruction and the variables of each function on a coroutine's stack.

    Intermediate values of expressions are not included: no await on the model is in an expression
    that has any.
    """
    frames = []
    while routine is not None:
        frame = getattr(routine, "cr_frame", None) or getattr(routine, "gi_frame", None)
        if frame is not None:
            values = tuple((name, _plain(value)) for name, value in frame.f_locals.items())
            frames.append((frame.f_code, frame.f_lasti, values))
        routine = getattr(routine, "cr_await", None) or getattr(routine, "gi_yieldfrom", None)
    return tuple(frames)


def _plain(value: Any) -> Any:
    """Return a hashable value that is equal for equal values."""
    if type(value) in _ATOMS:
        return value
    match value:
        case list() | tuple() | dict():
            return tuple(map(_plain, value.items() if isinstance(value, dict) else value))
        case LeaseProtocol():
            nonces, fence = value._word.__self__, value._fence  # type: ignore[attr-defined]
            words = (word for word in vars(value).values() if type(word) is bytes)
            return (nonces.used, value.term, _plain(fence), value._decoded, *words)
        case ModelTerms() | TermFence():
            numbers = (getattr(value, name, 0) for name in ("known", "published", "_established"))
            return (value.current(), *numbers)
        # The variables of a coroutine follow: it is awaited.
        case ModelNode() | Coroutine() | SingleFlight() | MethodType():
            return type(value)
    return length_hint(value) if isinstance(value, Iterator) else value


def _go_on(routine: Routine, answer: Any) -> Any:
    if answer in (DEAD, UNKNOWN, TOO_LATE):
        return DONE
    errors = {FAILED: NodeUnavailable, REFUSED: StoreUnavailable}
    error = errors.get(answer) if isinstance(answer, str) else None
    try:
        yielded = routine.throw(error()) if error else routine.send(answer)
    except StopIteration:
        return DONE
    if isinstance(yielded, asyncio.Future):
        yielded._asyncio_future_blocking = False
    return yielded


@dataclass
class Violation(Exception):
    """A read returned a forbidden version, or a check failed; `steps` lead to that state."""

    what: str
    steps: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([self.what, *self.steps])


class Explorer:
    """Visits every state that the processes can reach, with at most one of the faults.

    `faults`: crash, restart, eviction, epoch, failure, pause. An election comes in addition.
    """

    def __init__(self, processes: Sequence[Process], faults: Sequence[str] = ()) -> None:
        self._processes = processes
        self._faults = faults
        self._behaviours = [Behaviour(process) for process in processes]
        self._renews = any(process.name.startswith("p") for process in processes)
        self._is_timed = any(process.name.startswith("t") for process in processes)
        self._has_one_writer = sum(process.is_writer for process in processes) == 1
        self._may_fail = "failure" in faults
        self._operations = {verb: getattr(Explorer, method) for verb, method in _METHODS.items()}
        self._live: set[World] = set()
        self._worlds: Numbers[World] = Numbers()
        self._seats: list[Numbers[Seat]] = [Numbers() for _ in processes]
        self._traits: list[list[int]] = [[] for _ in processes]  # of each seat
        self._all_traits: Numbers[tuple[frozenset[int], bool, bool]] = Numbers()
        # The successors that many states share: see _successors.
        self._moves: list[dict[tuple[int, Node], list[Move]]] = [{} for _ in processes]
        self._changes: dict[Node, list[tuple[Label, int]]] = {}
        world = World(faults=1 if {*faults} - {"election"} else 0)
        if "election" in faults:
            world = world._replace(elections=1, epoch=b"0" * 16 + LIST + b"-1")
        floors = tuple((None,) * len(behaviour.pending[0]) for behaviour in self._behaviours)
        self._start = State(world, (0,) * len(processes), floors)

    def explore(self, limit: int = 10_000_000) -> int:
        """Visit all states; return their number. Raises Violation for a forbidden state."""
        # The states are tuples without cycles. The garbage collector would visit all of them
        # again and again, for a fifth of the time.
        gc.disable()
        try:
            return self._explore(limit)
        finally:
            gc.enable()

    def _explore(self, limit: int) -> int:
        start = self._node(self._start)
        came_from: dict[Node, tuple[Node, Label] | None] = {start: None}
        waiting = [start]
        while waiting:
            node = waiting.pop()
            try:
                is_over = True
                for label, successor in self._successors(node):
                    is_over = is_over and len(label) == 1  # only time and faults are left
                    if successor not in came_from:
                        came_from[successor] = (node, label)
                        waiting.append(successor)
                if is_over:
                    self._check_liveness(self._state(node))
            except Violation as violation:
                cause: tuple[Node, Label] | None = came_from[node]
                while cause:
                    violation.steps.insert(0, " ".join(map(str, cause[1])))
                    cause = came_from[cause[0]]
                raise
            assert len(came_from) < limit, "too many states"
        return len(came_from)

    def _node(self, state: State) -> Node:
        seats = [self._seat(state, number) for number in range(len(self._processes))]
        return (self._worlds.of(state.world), *seats)

    def _seat(self, state: State, number: int) -> int:
        place = state.places[number]
        seat = self._seats[number].of((place, state.floors[number]))
        if seat == len(self._traits[number]):
            tokens = self._behaviours[number].tokens[place]
            traits = (tokens, self._is_writing(number, place), place > 0)
            self._traits[number].append(self._all_traits.of(traits))
        return seat

    def _state(self, node: Node) -> State:
        seats = [known.values[seat] for known, seat in zip(self._seats, node[1:], strict=True)]
        places, floors = zip(*seats, strict=True)
        return State(self._worlds.values[node[0]], places, floors)

    def _successors(self, node: Node) -> Iterator[tuple[Label, Node]]:
        """Yield the steps of each process, then those that no process makes.

        The steps of a process depend on its own seat, on the world, and on the traits of the
        others alone: the tokens that they may use, and whether they have begun or write. Most
        states share all of that with others, so each such case is computed once.
        """
        world, seats = node[0], node[1:]
        traits = (world, *map(getitem, self._traits, seats))
        for number, seat in enumerate(seats):
            case = (seat, traits)
            moves = self._moves[number].get(case)
            if moves is None:
                moves = self._moves[number][case] = [*self._moves_of(self._state(node), number)]
            for label, after, taken in moves:
                yield label, (after, *seats[:number], taken, *seats[number + 1 :])
        changes = self._changes.get(traits)
        if changes is None:
            changes = self._changes[traits] = [*self._changes_in(self._state(node))]
        for label, after in changes:
            yield label, (after, *seats)

    def _moves_of(self, state: State, number: int) -> Iterator[Move]:
        for label, following in self._steps_of(state, number):
            world = self._without_forgotten(following).world
            yield label, self._worlds.of(world), self._seat(following, number)

    def _changes_in(self, state: State) -> Iterator[tuple[Label, int]]:
        for label, world in self._weather(state):
            after = self._without_forgotten(_in_world(state, world)).world
            yield (label,), self._worlds.of(after)

    def _steps_of(self, state: State, number: int) -> Iterator[tuple[Label, State]]:
        for index, op in enumerate(self._behaviours[number].pending[state.places[number]]):
            if op not in (DONE, BLOCKED) and self._may_begin(state, number):
                yield from self._steps(state, number, index, op)
        if "crash" in self._faults and state.world.faults:
            yield from self._death(state, number)

    def _without_forgotten(self, state: State) -> State:
        """Forget recurring tokens that are not held any more: they can do no harm."""
        if not state.world.recurring:
            return state
        recurring = state.world.recurring & self._held(state)
        return _in_world(state, state.world._replace(recurring=recurring))

    def _is_settled(self, state: State, op: Op) -> bool:
        """True if the answer is the same whenever the step is made: no step need come before it."""
        world = state.world
        if op[0] == "abandon":
            return not self._renews
        if op == ("gets", CLOCK):  # matters only for the age of a tombstone of another writer
            return not self._is_timed or self._has_one_writer
        if op[0] != "get" or op[1] in (KEY, OTHER) or world.faults or world.stale or self._renews:
            return False
        return world.epoch is not None and world.quarantine is None

    def _may_begin(self, state: State, number: int) -> bool:
        """Start identical processes in their order only, since they are interchangeable."""
        name = self._processes[number].name
        if (
            state.places[number]
            or number == 0
            or name[:-1] != self._processes[number - 1].name[:-1]
        ):
            return True
        return state.places[number - 1] != 0

    def _steps(
        self, state: State, number: int, index: int, op: Op
    ) -> Iterator[tuple[Label, State]]:
        label: Label = (self._processes[number].name, op)
        behaviour = self._behaviours[number]
        if op[0] == "begin":
            state = self._begun(state, number, index)
            op = behaviour.pending[state.places[number]][index]
            label += (op,)
        while self._is_settled(state, op):
            ((answer, _),) = self._carried_out(state, number, op)
            state = self._answered(state, number, index, answer)
            op = behaviour.pending[state.places[number]][index]
            label += (op,)
        if op in (BLOCKED, DONE):
            yield label, state
            return
        for answer, world in self._carried_out(state, number, op):
            after = state if world is state.world else _in_world(state, world)
            yield (*label, answer), self._answered(after, number, index, answer)

    def _begun(self, state: State, number: int, index: int) -> State:
        state = _with_floor(state, number, index, (state.world.answered, state.world.seen))
        place = self._behaviours[number].after(state.places[number], index, None)
        return self._at(state, number, place)

    def _at(self, state: State, number: int, place: int) -> State:
        places = (*state.places[:number], place, *state.places[number + 1 :])
        return State(state.world, places, state.floors)

    def _answered(self, state: State, number: int, index: int, answer: Any) -> State:
        """Deliver an answer, and record at once the operations that it ended."""
        behaviour = self._behaviours[number]
        state = self._at(state, number, behaviour.after(state.places[number], index, answer))
        ended = True
        while ended:
            ended = False
            for i, op in enumerate(behaviour.pending[state.places[number]]):
                if op[0] in ("returns", "answers"):
                    state = self._ended(state, number, i, op)
                    place = behaviour.after(state.places[number], i, None)
                    state, ended = self._at(state, number, place), True
                    break
        return state

    def _ended(self, state: State, number: int, index: int, op: Op) -> State:
        world, version = state.world, op[1]
        if op[0] == "answers":
            answered = max(world.answered, version)
            seen = max(world.seen, answered)
            return _in_world(state, world._replace(answered=answered, seen=seen))
        floor = state.floors[number][index]
        assert floor is not None
        name = self._processes[number].name
        if version < floor[0]:
            raise Violation(f"stale: {name} returns {version} after {floor[0]} was answered")
        if version < floor[1]:
            raise Violation(f"backward: {name} returns {version} after {floor[1]} was seen")
        if version > world.seen:
            world = world._replace(seen=version)
        return _with_floor(_in_world(state, world), number, index, None)

    def _carried_out(self, state: State, number: int, op: Op) -> list[tuple[Any, World]]:
        """Return each possible answer to a step, with the world after it."""
        verb = op[0]
        results = list(self._operations[verb](self, state, number, *op[1:]))
        if verb not in ("get", "gets", "put") or op == ("gets", CLOCK):
            return results
        world = state.world
        if world.away == "away" or (world.away == "back" and verb == "get"):
            return [(FAILED, world)]
        if self._may_fail and world.faults:
            after = [world, *(successor for _, successor in results)]
            results += [(FAILED, successor._replace(faults=0)) for successor in after]
        return results

    def _find(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        yield state.world.committed, state.world

    def _load(self, state: State, number: int, term: int) -> Iterator[tuple[Any, World]]:
        """Read from a primary of the term that the driver knows, or of a newer one."""
        world = state.world
        if not world.deposed or not self._processes[number].is_cut:
            newest = world.lagging or world.committed
            yield (newest, 2 if world.deposed else 1), world
        if world.deposed and term == 1:
            yield (world.deposed, 1), world

    def _commit_in(self, state: State, number: int, term: int) -> Iterator[tuple[Any, World]]:
        """Commit, as only the primary with a majority can: the driver repeats the write there."""
        world, version = state.world, state.world.committed + 1
        if world.deposed and self._processes[number].is_cut:
            yield TOO_LATE, world._replace(excused=True)
        else:
            after = world._replace(committed=version, lagging=0)
            yield (version, 2 if world.deposed else term), after

    def _acknowledge(self, state: State, number: int) -> Iterator[tuple[Any, World]]:
        is_refused = state.world.deposed and number >= 0 and self._processes[number].is_cut
        if is_refused:
            yield REFUSED, state.world
        else:
            yield 2 if state.world.deposed else 1, state.world._replace(lagging=0)

    def _monitor(self, state: State, number: int, term: int) -> Iterator[tuple[Any, World]]:
        """Let the driver learn of an election, or not yet."""
        yield term, state.world
        if state.world.deposed and term == 1 and not self._processes[number].is_cut:
            yield 2, state.world

    def _give_up(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        yield None, state.world._replace(excused=True)

    def _starts(self, state: State, number: int, ticks: int) -> Iterator[tuple[Any, World]]:
        """Start a write, which must commit within the given number of ticks."""
        mine = (self._processes[number].name, ticks)
        yield None, state.world._replace(time_left=state.world.time_left | {mine})

    def _commit(
        self, state: State, number: int, looks_at_the_clock: bool
    ) -> Iterator[tuple[Any, World]]:
        world, version = state.world, state.world.committed + 1
        name = self._processes[number].name
        if looks_at_the_clock and (name, 0) in world.time_left:
            yield TOO_LATE, world._replace(excused=True)
            return
        if self._is_timed and not _is_covered(world, name):
            raise Violation(f"uncovered: {name} commits, and readers are not kept from the key")
        others = frozenset(timer for timer in world.time_left if timer[0] != name)
        yield version, world._replace(committed=version, time_left=others)
        if "crash" in self._faults and world.faults:
            undecided = world.undecided | {name}
            yield UNKNOWN, world._replace(undecided=undecided, faults=0, excused=True)

    def _tick(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        """Let time pass. If a writer would then be late, that is a fault."""
        world, living = state.world, {*self._writing(state)} - state.world.undecided
        late = any(name in living and ticks == 1 for name, ticks in world.time_left)
        if late and ("pause" not in self._faults or not world.faults):
            return
        after = _ticked(world)._replace(faults=0 if late else world.faults)
        over = {name for name, ticks in after.time_left if not ticks}
        yield None, after._replace(undecided=world.undecided - over)

    def _noticed(self, state: State, number: int) -> Iterator[tuple[Any, World]]:
        """Every process that shares an outage notices it."""
        pending = state.world.pending | {self._processes[number].name}
        yield None, state.world._replace(away="away", pending=pending)

    def _abandon(self, state: State, number: int) -> Iterator[tuple[Any, World]]:
        name = self._processes[number].name
        pending, ended = state.world.pending - {name}, state.world.ended | {name}
        yield (
            None,
            state.world._replace(pending=pending, ended=ended) if self._renews else state.world,
        )

    def _has_ended(self, state: State, _number: int, name: str) -> Iterator[tuple[Any, World]]:
        yield name in state.world.ended, state.world

    def _mark_stale(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        """While the node is away, a new epoch is already on its way to it."""
        yield None, state.world if state.world.away else state.world._replace(stale=True)

    def _replies(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        if state.world.away != "away":
            yield None, state.world

    def _answers_again(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        """The node returns with its memory, or was restarted and returns empty."""
        pending, world = " ".join(sorted(state.world.pending)), state.world._replace(away="back")
        if state.world.away == "away":
            yield pending, world
            if "restart" in self._faults:
                yield pending, self._restarted(state)._replace(away="back")

    def _is_read_again(self, state: State, _number: int) -> Iterator[tuple[Any, World]]:
        yield None, state.world._replace(away="")

    def _get(self, state: State, _number: int, key: bytes) -> Iterator[tuple[Any, World]]:
        world = state.world
        if key == EPOCH:
            yield world.epoch, world
        elif key == QUARANTINE:
            yield world.quarantine and world.quarantine.value, world
        else:
            held = world.other if key == OTHER else world.item
            yield (held and held.value), world

    def _gets(self, state: State, _number: int, key: bytes) -> Iterator[tuple[Any, World]]:
        world = state.world
        if key == CLOCK:
            yield Held(b"clock", 0, world.clock), world
        elif key == EPOCH:  # all values differ: the number serves as a token
            yield (world.epoch and Held(world.epoch, _epoch_token(world.epoch), None)), world
        elif key == QUARANTINE:
            found = world.quarantine
            yield found and Held(found.value, found.token, found.ttl), world
        else:
            yield (world.other if key == OTHER else world.item), world

    def _put(
        self,
        state: State,
        _number: int,
        key: bytes,
        value: bytes,
        ttl: int | None,
        token: Any = None,
    ) -> Iterator[tuple[Any, World]]:
        world = state.world
        if key == QUARANTINE:
            known = world.quarantine and world.quarantine.token
            begun = Quarantine(value, ttl or 0, frozenset(self._writing(state)))
            yield token == known, world._replace(quarantine=begun) if token == known else world
        elif key == EPOCH:
            known = None if world.epoch is None else _epoch_token(world.epoch)
            is_let = token == known or isinstance(token, str)
            yield is_let, world._replace(epoch=value) if is_let else world
        elif not self._is_let(world.other if key == OTHER else world.item, token):
            yield False, world
        elif ttl == 0:
            yield True, _with_item(world, key, None)
        else:
            for new in self._new_tokens(state):
                after = _with_item(world, key, Held(value, new, ttl))
                yield True, after._replace(recurring=world.recurring - {new})

    @staticmethod
    def _is_let(item: Held | None, token: Any) -> bool:
        if isinstance(token, str):
            return True
        return item is None if token is None else item is not None and item.token == token

    def _new_tokens(self, state: State) -> Iterator[int]:
        """Yield an unused token, and those that may recur after a restart of Memcached."""
        held = self._held(state) | state.world.recurring
        number = 1
        while number in held:
            number += 1
        yield number
        yield from state.world.recurring

    def _held(self, state: State) -> frozenset[int]:
        items = (state.world.item, state.world.other)
        tokens = [b.tokens[p] for b, p in zip(self._behaviours, state.places, strict=True)]
        return frozenset({item.token for item in items if item}).union(*tokens)

    def _writing(self, state: State) -> Iterator[str]:
        """Yield the active writers; a dead one counts while its commit may still happen."""
        yield from state.world.undecided
        for number, process in enumerate(self._processes):
            if self._is_writing(number, state.places[number]):
                yield process.name

    def _is_writing(self, number: int, place: int) -> bool:
        is_over = self._behaviours[number].pending[place] == (DONE,)
        return self._processes[number].is_writer and place > 0 and not is_over

    def _weather(self, state: State) -> Iterator[tuple[str, World]]:
        """Yield the steps that no process makes: time passes, and faults happen."""
        yield from self._passing_time(state)
        world = state.world
        if world.elections:
            elected = world._replace(
                elections=0, deposed=world.committed, lagging=world.committed - 1
            )
            yield "another primary is elected", elected
        if world.lagging:
            yield "the new primary commits", world._replace(lagging=0)
        if world.faults:
            yield from self._mishaps(_in_world(state, world._replace(faults=0)))

    def _passing_time(self, state: State) -> Iterator[tuple[str, World]]:
        world, writing = state.world, frozenset(self._writing(state))
        for name in world.undecided:
            after = world._replace(
                committed=world.committed + 1, undecided=world.undecided - {name}
            )
            yield f"{name}, which is dead, commits", after
        living = writing - world.undecided
        if world.quarantine and not self._is_timed and not world.quarantine.writers & living:
            yield "the quarantine ends", world._replace(quarantine=None, undecided=frozenset())
        writers = {name.partition(":")[0] for name in _marked(world)}
        if writers and not self._is_timed and not living & writers:
            yield "a tombstone expires", world._replace(item=None, undecided=frozenset())
        if world.stale:
            renewed = world._replace(epoch=b"e" * 16 + LIST, stale=False)
            yield "a new epoch, for a stale node", renewed

    def _restarted(self, state: State) -> World:
        # With a recurring token, a writer may store a mark again that was removed before.
        recurring = self._held(state)
        emptied = state.world._replace(epoch=None, quarantine=None, item=None, other=None)
        return emptied._replace(recurring=recurring, excused=bool(recurring))

    def _mishaps(self, state: State) -> Iterator[tuple[str, World]]:
        world = state.world
        if "restart" in self._faults:
            yield "Memcached restarts", self._restarted(state)
        if "epoch" in self._faults:
            yield "a new epoch", world._replace(epoch=b"f" * 16 + LIST)
        if "eviction" in self._faults:
            yield "the epoch is evicted", world._replace(epoch=None)
            # The eviction of a tombstone is the one fault that the promise excludes.
            if world.item and not isinstance(_decoded(world.item.value), Tombstone):
                yield "an entry or a lease is gone", world._replace(item=None)
            if world.other:
                yield "an entry or a lease of the other key is gone", world._replace(other=None)

    def _death(self, state: State, number: int) -> Iterator[tuple[Label, State]]:
        place = state.places[number]
        if self._is_writing(number, place):
            dead = self._at(state, number, self._behaviours[number].after(place, 0, DEAD))
            world = state.world._replace(faults=0, excused=True)
            yield (self._processes[number].name, "dies"), _in_world(dead, world)

    def _check_liveness(self, state: State) -> None:
        """Raises Violation for a mark that was left behind, or a key that never hits again."""
        world = state.world
        if _marked(world) and not world.excused:
            raise Violation("lingers: a write has ended, and its mark stands")
        if world not in self._live:
            self._check_hits(state)
            self._live.add(world)

    def _check_hits(self, state: State) -> None:
        """Write in each tick, and check that a read hits in time.

        The ticks are between two writes. If time is counted, they are also tried within a write,
        between a read of the key and the command that stores.
        """
        epoch = b"e" * 16 + LIST if state.world.stale else state.world.epoch
        world = state.world._replace(epoch=epoch, stale=False, away="", faults=0)
        for is_slow in {False, self._is_timed}:
            if not self._hits(_in_world(state, world), is_slow=is_slow):
                speed = "slowly " if is_slow else ""
                raise Violation(
                    f"no hit: {_ROUNDS} reads of a key that is {speed}written meanwhile"
                )

    def _hits(self, state: State, *, is_slow: bool) -> bool:
        world = state.world
        for number in range(_ROUNDS):
            world = world if is_slow else _ticked(world)
            statuses: list[str] = []
            newest = 2 if world.deposed else world.elections  # 0 without elections
            write, *reads = self._round(number, statuses, newest)
            world = self._run_alone(_in_world(state, world), write, is_slow=is_slow)
            for read in reads:
                world = self._run_alone(_in_world(state, world), read)
            if statuses[-1] == HIT:
                return True
        return False

    def _round(self, number: int, statuses: list[str], newest: int) -> Iterator[Routine]:
        """Yield one write and two reads, with the code that the processes run.

        `newest` is the term of the newest primary.
        """
        kind, lifetime = self._processes[0].kind, self._processes[0].lifetime
        fence = TermFence(ModelTerms(newest), CacheCounts()) if newest else None
        leases = protocol_of(f"x{number}", kind, lifetime, fence)

        async def write() -> None:
            await leases.place_tombstones([KEY], b"x%d" % number)
            await leases.remove_tombstones([KEY], b"x%d" % number)

        async def read() -> None:
            statuses.append((await leases.read(KEY, load)).status)

        yield write()
        yield read()
        yield read()

    def _run_alone(self, state: State, routine: Routine, *, is_slow: bool = False) -> World:
        """Run a coroutine to its end while no other process runs."""
        answer = None
        while (op := _go_on(routine, answer)) != DONE:
            answer, world = next(iter(self._operations[op[0]](self, state, -1, *op[1:])))
            state = _in_world(state, _ticked(world) if is_slow and op == ("gets", KEY) else world)
        return state.world


def _epoch_token(value: bytes) -> int:
    """Return a number that differs for each epoch and term."""
    return 10 * int(value[:16], 16) + int(value[34:] or 0)


def _marked(world: World) -> set[str]:
    """Return the writers whose marks are on the key."""
    stored = world.item and _decoded(world.item.value)
    marks = stored.marks if isinstance(stored, Tombstone) else ()
    return {writer.decode() for writer, _ in marks}


def _with_item(world: World, key: bytes, item: Held | None) -> World:
    return world._replace(other=item) if key == OTHER else world._replace(item=item)


def _is_covered(world: World, writer: str) -> bool:
    """True if every reader bypasses the node, or this key of it."""
    return writer in _marked(world) or world.quarantine is not None or world.epoch is None


def _ticked(world: World) -> World:
    """Decrement every time to live."""
    item, quarantine = world.item, world.quarantine
    if item is not None:
        ttl = (item.seconds_left or 0) - 1
        item = item._replace(seconds_left=ttl) if ttl > 0 else None
    if quarantine is not None:
        ttl = quarantine.ttl - 1
        quarantine = quarantine._replace(ttl=ttl) if ttl > 0 else None
    time_left = frozenset((name, max(0, ticks - 1)) for name, ticks in world.time_left)
    clock = world.clock - 1
    return world._replace(item=item, quarantine=quarantine, time_left=time_left, clock=clock)
