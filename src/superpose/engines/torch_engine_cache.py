"""Slot cache: each live lane owns a row of the keys and values, at its own position.

A forward pass sees adjacent rows and their first `kv` columns as plain views: nothing is gathered. All layers,
sliding and chunked ones too, are stored at full length and masked, so that cutting a lane is setting a number.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, get_layer_types_and_kwargs

from superpose.engines.torch_engine_attention import ATTENTION, Group
from superpose.engines.torch_engine_memory import free_bytes

BUCKET = 64  # the columns seen are rounded up to this: odd lengths round differently and are slower
FIRST_COLUMNS = 256


Masks = Tensor | dict[str, Tensor]  # [n, 1, T, kv], or [n, 1, 1, 2] spans of columns; or one a kind of layer


class Plan:
    """Where the current forward pass writes and how much it sees; shared by all layers."""

    rows = slice(0, 0)  # of this pass
    kv = 0  # columns seen
    groups: Sequence[Group] | Tensor = ()  # of a step
    columns: slice | None = None  # written by a pass over one row
    scatter: tuple[Tensor, Tensor] | None = None  # rows [n] and columns [n] written by any other
    spans = False  # whether this pass is a step whose attention stores keys and values, and takes no mask
    capacity = (0, 0)  # rows and columns that every layer grows to before it is written
    moves = 0  # how often keys and values of a layer came to lie elsewhere


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped here
    """Keys and values of one layer, [rows, heads_kv, columns, head_dim] each."""

    is_sliding = False  # even where attention slides: the mask does that
    keys: Tensor
    values: Tensor

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Takes the shapes of the model's keys and values; they may differ."""
        self.keys, self.values = (new.new_zeros(0, new.shape[1], 0, new.shape[3]) for new in (key_states, value_states))
        self.is_initialized = True

    def grow(self) -> None:
        """Brings the buffers up to the plan's capacity."""
        rows, columns = self.plan.capacity
        if self.is_initialized and (self.keys.shape[0] < rows or self.keys.shape[2] < columns):
            self.keys, self.values = _grown(self.keys, rows, columns), _grown(self.values, rows, columns)
            self.plan.moves += 1

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What the plan's rows see, [n, heads_kv, kv, d], once `key_states` [n, heads_kv, T, d] are in."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.grow()
        plan = self.plan
        if plan.columns is not None:  # quicker than what follows
            self.keys[plan.rows, :, plan.columns] = key_states
            self.values[plan.rows, :, plan.columns] = value_states
        elif plan.scatter is not None:
            row, column = plan.scatter
            row, column = row.to(self.keys.device), column.to(self.keys.device)  # it may be on another GPU
            self.keys[row, :, column] = key_states[:, :, 0]
            self.values[row, :, column] = value_states[:, :, 0]
        return self.keys[plan.rows, :, : plan.kv], self.values[plan.rows, :, : plan.kv]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns seen, and the offset of the first."""
        return self.plan.kv, 0

    def get_seq_length(self) -> int:
        """Columns seen; the rows' own lengths travel as position ids. Raises RuntimeError in a step by spans."""
        if self.plan.spans:
            raise RuntimeError("it asks how long the cache is")
        return self.plan.kv

    def get_max_length(self) -> int:
        """-1: no maximum of its own."""
        return -1


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """The layers of some slots, for a model's own code."""

    def __init__(self, plan: Plan, layers: Sequence[SlotLayer]) -> None:
        super().__init__(layers=list(layers))
        self._plan = plan

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As the layer does it; what is new, where attention itself stores it."""
        if self._plan.spans:  # no layer is looked up: one compiled program serves all of them
            return key_states, value_states
        seen: tuple[Tensor, Tensor] = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        return seen


class Slots:
    """The rows of all lanes: who holds which, how long it is, and what the next forward pass needs.

    What lies beyond a lane's length is never seen, so a pass that failed leaves no trace.
    """

    def __init__(self, config: PreTrainedConfig, max_rows: int, max_columns: int) -> None:
        kinds, options = get_layer_types_and_kwargs(config)
        self._windows = {kind: option.get("sliding_window", 0) for kind, option in zip(kinds, options, strict=True)}
        self._limit = max_rows, _ceil(max_columns + 1)  # a full lane that pads a step has a column to write to, too
        self._plan = Plan()
        self._layers = [SlotLayer(self._plan) for _ in kinds]
        self.cache = SlotCache(self._plan, self._layers)
        self.by_spans = False  # whether padded steps have spans instead of masks
        self._cells: dict[torch.device, int] = {}  # bytes of one column of one row, once a pass has told
        self.row: dict[int, int] = {}  # of each lane
        self.length: dict[int, int] = {}  # of each lane: how many columns are its own

    def attend(self, model: PreTrainedModel) -> None:
        """Makes the model's attention the one below. Not every model hands options on to it, so its modules do."""
        for module in model.modules():
            module.superpose_plan = self._plan
            if isinstance(index := getattr(module, "layer_idx", None), int) and index < len(self._layers):
                module.superpose_layer = self._layers[index]
        model.set_attn_implementation(ATTENTION)

    def open(self, lane: int) -> None:
        """Gives a lane the first free row."""
        taken = set(self.row.values())
        self.row[lane] = next(row for row in range(self._limit[0]) if row not in taken)
        self.length[lane] = 0

    def close(self, lane: int, keep: bool = False) -> None:
        """Frees a lane's row; the last one to leave gives the memory back, unless its place is to be kept."""
        del self.row[lane], self.length[lane]
        if not self.row and not keep:
            self._plan.capacity = 0, 0
            for layer in self._layers:
                if layer.is_initialized:  # a lane may leave before it was ever read
                    layer.is_initialized = False
                    del layer.keys, layer.values

    def copy(self, source: int, target: int, upto: int) -> None:
        """Makes the first `upto` columns of a lane those of another's too."""
        self._reserve(upto)
        for stored in self.buffers():
            stored[self.row[target], :, :upto] = stored[self.row[source], :, :upto]
        self.length[target] = upto

    def held(self) -> int:
        """Bytes of all keys and values. Another thread may ask while they come and go."""
        stored = (getattr(layer, kind, None) for layer in self._layers for kind in ("keys", "values"))
        return sum(tensor.nbytes for tensor in stored if tensor is not None)

    def fits(self, rows: int, columns: int) -> bool:
        """Whether so many rows of so many columns can be had; True before the first pass has told their size."""
        have_rows, have_columns = self._plan.capacity
        wanted = max(rows, have_rows) * max(_ceil(columns), have_columns)
        return not self._cells or wanted <= self._room()

    def clean(self, lanes: Sequence[int]) -> None:
        """Zeros what lies beyond the lanes' lengths: after numbers that were not finite.

        A masked column still counts with weight 0, and 0 times NaN is NaN.
        """
        for stored in self.buffers():
            for lane in lanes:
                stored[self.row[lane], :, self.length[lane] :] = 0

    def settle(self) -> None:
        """Asks for no more than what every layer has: after memory ran out while they grew."""
        held = [layer.keys.shape for layer in self._layers if layer.is_initialized]
        complete = len(held) == len(self._layers)
        self._plan.capacity = (min(h[0] for h in held), min(h[2] for h in held)) if complete else (0, 0)

    def arrange(self, lanes: Sequence[int], first: bool = False) -> list[int]:
        """The lanes in the order of their rows, which are adjacent now, or the first of all.

        Moves rows only if they were not.
        """
        rows = sorted(self.row[lane] for lane in lanes)
        if rows[-1] - (0 if first else rows[0]) >= len(rows):
            holders = {row: lane for lane, row in self.row.items()}
            late = [lane for lane in lanes if self.row[lane] >= len(rows)]
            for row in sorted(set(range(len(rows))) - set(rows)):
                self._exchange(late.pop(), row, holders.get(row))
        return sorted(lanes, key=self.row.__getitem__)

    def _exchange(self, lane: int, row: int, holder: int | None) -> None:
        self._reserve(0)
        here, own = self.row[lane], slice(self.length[lane])
        other = slice(0 if holder is None else self.length[holder])
        # All that needs memory comes first: running out of it half-way would leave a lane in two halves.
        kept = [(stored, stored[row, :, other].clone()) for stored in self.buffers()]
        for stored, columns in kept:
            stored[row, :, own] = stored[here, :, own]
            stored[here, :, other] = columns
        self.row[lane] = row
        if holder is not None:
            self.row[holder] = here

    def plan(self, lane: int, start: int, count: int) -> None:
        """Prepares a pass that writes `count` columns of one lane, from `start` on; every layer now follows it."""
        plan, row = self._plan, self.row[lane]
        plan.rows, plan.kv, plan.groups = slice(row, row + 1), _ceil(start + count), ()
        plan.columns, plan.spans = slice(start, start + count), False
        self._reserve(plan.kv)

    def plan_step(self, lanes: Sequence[int], size: int) -> list[int]:
        """Prepares a step of `lanes`, in the order of `arrange`; the column that each of `size` rows writes.

        With more rows than lanes, those behind them write where whoever owns them will write next, and see nothing
        but their own; all see a power of two of columns, so that there are few shapes of a step.
        """
        plan, first, padded = self._plan, self.row[lanes[0]], size > 0
        columns = [self.length[lane] for lane in lanes]
        plan.kv = _ceil(max(columns) + 1)
        if padded:
            lengths = {row: self.length[lane] for lane, row in self.row.items()}
            columns += [lengths.get(row, 0) for row in range(first + len(lanes), first + size)]
            plan.kv = min(max(FIRST_COLUMNS, 1 << (plan.kv - 1).bit_length()), self._limit[1])
        plan.columns = slice(columns[0], columns[0] + 1) if not padded and len(columns) == 1 else None
        plan.groups = [(0, size, plan.kv)] if padded else _groups([_ceil(column + 1) for column in columns])
        plan.rows = slice(first, first + len(columns))
        self._reserve(max(plan.kv, max(columns) + 1), first + len(columns))
        if padded:
            self.buffers()  # now, for what is captured must not move
        plan.spans = padded and self.by_spans and all(layer.is_initialized for layer in self._layers)
        return columns

    def write(self, rows: Tensor, columns: Tensor) -> None:
        """Makes the planned step write these columns [n] of these rows [n]."""
        self._plan.scatter = rows, columns

    def unwrite(self) -> None:
        """Zeros what the planned step writes, so that a pass over it shows whether it writes that."""
        assert self._plan.scatter is not None
        rows, columns = self._plan.scatter
        for stored in self.buffers():
            stored[rows, :, columns] = 0

    def bounds(self) -> list[Tensor]:
        """The planned step in tensors: rows and columns seen, columns written, groups [g, 3], rows and columns [n]."""
        plan = self._plan
        assert plan.scatter is not None
        written = plan.columns or slice(0, 0)
        numbers = torch.tensor([plan.rows.start, plan.rows.stop, plan.kv, written.start, written.stop])
        return [*numbers.unbind(), torch.as_tensor(plan.groups), *plan.scatter]

    @contextmanager
    def bounded(self, bounds: Sequence[Any]) -> Iterator[None]:
        """Makes layers find the planned step in these `bounds`, of which a recording takes note."""
        plan = self._plan
        kept = plan.rows, plan.kv, plan.columns, plan.groups, plan.scatter
        first, last, plan.kv, start, stop, plan.groups, rows, columns = bounds
        plan.rows, plan.scatter = slice(first, last), (rows, columns)
        plan.columns = plan.columns and slice(start, stop)
        try:
            yield
        finally:
            plan.rows, plan.kv, plan.columns, plan.groups, plan.scatter = kept

    def shape(self) -> tuple[object, ...]:
        """What of a planned step is not in tensors, and where it reads: another one is another program."""
        plan = self._plan
        return plan.rows.start, plan.rows.stop, 0 if plan.spans else plan.kv, plan.moves

    @property
    def spans(self) -> bool:
        """Whether the planned pass is a step by spans."""
        return self._plan.spans

    def masks(self, positions: Tensor, dtype: torch.dtype) -> Masks:
        """What is added to the scores of queries at `positions` [n, T]: [n, 1, T, kv], or one a kind of layer.

        Models with one kind of layer break on a dict; those with several would take one tensor for all of them. For a
        step by spans, the first and the last column that a row sees, [n, 1, 1, 2], which models hand on like a mask.
        """
        if self._plan.spans:
            spans = {kind: _spans(kind, window, positions[:, None, :, None]) for kind, window in self._windows.items()}
            return spans if len(spans) > 1 else next(iter(spans.values()))
        column = torch.arange(self._plan.kv, device=positions.device)
        query = positions[:, None, :, None]  # [n, 1, T, 1]
        made: dict[str, Tensor] = {}
        for kind, window in self._windows.items():
            seen = column <= query
            if kind == "sliding_attention":
                seen &= column > query - window
            elif kind == "chunked_attention":
                seen &= column // window == query // window
            # The lowest number, not -inf: a query that sees nothing would be NaN.
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            made[kind] = mask.masked_fill_(~seen, torch.finfo(dtype).min)
        return made if len(made) > 1 else next(iter(made.values()))

    def _reserve(self, columns: int, rows: int = 0) -> None:
        """Asks for room for all lanes' rows, at least so many, and columns; doubles, so that memory follows use.

        Raises MemoryError where the system would end the process rather than refuse the memory.
        """
        (have_rows, have_columns), rows, columns = (
            self._plan.capacity,
            max(rows, max(self.row.values()) + 1),
            _ceil(columns),
        )
        least = max(rows, have_rows), max(columns, have_columns)
        if least == (have_rows, have_columns):
            return
        rows = have_rows if rows <= have_rows else max(rows, 2 * have_rows)
        columns = have_columns if columns <= have_columns else max(columns, 2 * have_columns, FIRST_COLUMNS)
        wanted = min(rows, self._limit[0]), min(columns, self._limit[1])
        held = [stored for layer in self._layers if layer.is_initialized for stored in (layer.keys, layer.values)]
        cells = {stored.device: 0 for stored in held}
        for stored in held:
            cells[stored.device] += stored.shape[1] * stored.shape[3] * stored.element_size()
        self._cells = cells or self._cells  # with nothing held yet, what an earlier pass has told holds
        if any(device.type == "cpu" for device in cells):
            room = self._room()
            wanted = wanted if wanted[0] * wanted[1] <= room else least
            if least[0] * least[1] > room:
                raise MemoryError
        self._plan.capacity = wanted

    def _room(self) -> int:
        """Columns of one row that the memory of every device holds, those that are there included."""
        rows, columns = self._plan.capacity
        free = [(free_bytes(device), cell) for device, cell in self._cells.items()]
        return rows * columns + min(sys.maxsize if known is None else known // cell for known, cell in free)

    def buffers(self) -> list[Tensor]:
        """Keys and values of all layers, with room for what was reserved."""
        for layer in self._layers:
            layer.grow()
        return [stored for layer in self._layers if layer.is_initialized for stored in (layer.keys, layer.values)]


def _spans(kind: str, window: int, last: Tensor) -> Tensor:
    """The first and the last column that a row of a layer of this kind sees, [n, 1, 1, 2], `last` [n, 1, 1, 1]."""
    first = torch.zeros_like(last)
    if kind == "sliding_attention":
        first = (last - window + 1).clamp_(min=0)
    elif kind == "chunked_attention":
        first = last // window * window
    return torch.cat([first, last], -1)


def _groups(columns: Sequence[int]) -> list[Group]:
    """Neighbouring rows that see equally many `columns`, and how many."""
    found, end = [], 0
    for seen, rows in groupby(columns):
        first, end = end, end + len(list(rows))
        found.append((first, end, seen))
    return found


def _grown(stored: Tensor, rows: int, columns: int) -> Tensor:
    # Zeros, because what is masked still counts with weight 0, and 0 times NaN is NaN.
    grown = stored.new_zeros(rows, stored.shape[1], columns, stored.shape[3])
    grown[: stored.shape[0], :, : stored.shape[2]] = stored
    return grown


def _ceil(columns: int) -> int:
    return -(-columns // BUCKET) * BUCKET
