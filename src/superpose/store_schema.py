"""The schema of the run store, in numbered steps. A step that has been released is never edited."""

from __future__ import annotations

# What a list may filter by, at the end of every index that sorts: a page is then found in one index alone,
# whatever is filtered and however few runs pass.
_FILTERS = "strategy, model, status, parent, imported, deleted_at"

MIGRATIONS = [
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, created_at TEXT NOT NULL, status TEXT NOT NULL, owner TEXT NOT NULL, spec TEXT NOT NULL,
        name TEXT, tags TEXT NOT NULL DEFAULT '[]', steps INTEGER NOT NULL DEFAULT 0,
        answer TEXT NOT NULL DEFAULT '', tokens_per_second REAL NOT NULL DEFAULT 0, error TEXT
    );
    CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        seq INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, UNIQUE (run, seq)
    );
    CREATE INDEX events_run ON events (run, position);
    """,
    # place: microseconds of created_at, made unique. Lists are sorted by it, and it is the key of words and tags.
    # The store fills the new columns of runs without a place when it opens.
    f"""
    ALTER TABLE runs ADD COLUMN place INTEGER;
    ALTER TABLE runs ADD COLUMN title TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN strategy TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN model TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN seed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN parent TEXT;
    ALTER TABLE runs ADD COLUMN fork_step INTEGER;
    ALTER TABLE runs ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN deleted_at TEXT;
    CREATE UNIQUE INDEX runs_place ON runs (place);
    CREATE INDEX runs_created ON runs (place, {_FILTERS});
    CREATE INDEX runs_name ON runs (title, place, {_FILTERS});
    CREATE INDEX runs_strategy ON runs (strategy, place, {_FILTERS});
    CREATE INDEX runs_model ON runs (model, place, {_FILTERS});
    CREATE INDEX runs_steps ON runs (steps, place, {_FILTERS});
    CREATE INDEX runs_tokens_per_second ON runs (tokens_per_second, place, {_FILTERS});
    CREATE INDEX runs_seed ON runs (seed, place, {_FILTERS});
    CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
    CREATE INDEX runs_deleted ON runs (deleted_at) WHERE deleted_at IS NOT NULL;
    CREATE INDEX runs_live ON runs (status) WHERE status IN ('queued', 'running', 'paused');
    CREATE TABLE tags (
        tag TEXT NOT NULL, place INTEGER NOT NULL REFERENCES runs (place) ON DELETE CASCADE, PRIMARY KEY (tag, place)
    ) WITHOUT ROWID;
    CREATE INDEX tags_place ON tags (place);
    CREATE TABLE words (
        place INTEGER PRIMARY KEY REFERENCES runs (place) ON DELETE CASCADE, indexed INTEGER NOT NULL DEFAULT 0,
        label TEXT NOT NULL, prompt TEXT NOT NULL, answer TEXT NOT NULL
    );
    CREATE INDEX words_unindexed ON words (place) WHERE NOT indexed;
    """,
    """
    CREATE TABLE feeds (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, step INTEGER NOT NULL, ids BLOB NOT NULL,
        weights BLOB NOT NULL, PRIMARY KEY (run, step)
    ) WITHOUT ROWID;
    """,
    # Counts of every status without sorting all runs; what was live is found in it too.
    """
    DROP INDEX runs_live;
    CREATE INDEX runs_status ON runs (status, deleted_at);
    """,
    # A step writes a page of each index for every live run: what this one found is found without it.
    "DROP INDEX events_run;",
]
