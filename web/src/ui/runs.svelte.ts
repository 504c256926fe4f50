/** The list of runs: what is asked for, the pages that have come, the selection, and what was deleted a moment ago. */

import {
  batches, clicked, type Facets, freshen, pagePath, parseQuery, type Query, type RunRow, runsHref, type RunsPage,
} from '../core/runs.ts';
import type { Labelled } from '../core/api.d.ts';
import { plural } from '../core/format.ts';
import { isOver } from '../core/reducer.ts';
import { get, patch, post, sentence, upload } from './api.ts';
import { Countdown } from './runs/countdown.svelte.ts';
import { nav } from './nav.svelte.ts';

/** A page of the list as it was asked for; it is drawn only near the screen. */
export interface Block {
  after: string | null;
  rows: readonly RunRow[];
}

const PAGE = 50;
const PACE = 2000; // ms between two looks at live rows
const UNDO = 10_000; // ms

class Runs {
  query = $state.raw<Query>(parseQuery(new URL(location.href)));
  blocks = $state.raw<readonly Block[]>([]);
  total = $state<number | null>(null);
  facets = $state.raw<Facets>({ strategies: [], models: [], tags: [], statuses: [] });
  selected = $state.raw<ReadonlySet<string>>(new Set());
  deleted = $state.raw<ReadonlySet<string>>(new Set()); // hidden here, restorable there
  problem = $state<string | null>(null); // of the last act
  trouble = $state<string | null>(null); // of reading the list
  notice = $state<string | null>(null);
  loading = $state(false);
  asked = $state(false);
  moved = $state(false); // the server has runs that the list does not show in their place
  readonly undoing = new Countdown(UNDO, () => this.forget());

  readonly rows = $derived(this.blocks.flatMap(({ rows }) => rows).filter(({ id }) => !this.deleted.has(id)));
  readonly chosen = $derived(this.rows.filter(({ id }) => this.selected.has(id)));
  private next = $state<string | null>(null);
  readonly more = $derived(this.next !== null);
  private last: string | null = null; // the row whose box was clicked
  private asking: AbortController | null = null;
  private timer = 0;

  // -- the list -----------------------------------------------------------------------------------------

  /** Shows what the address says; a list that was read far down stays as it is, with fresh rows. */
  enter(): void {
    const query = parseQuery(new URL(location.href));
    const same = runsHref(query) === runsHref(this.query);
    this.query = query;
    void (same && this.blocks.length > 1 ? this.refresh() : this.load());
  }

  /** Asks for something else; it becomes a new entry of the history, or takes the place of the last. */
  ask(changes: Partial<Query>, replace = false): void {
    const href = runsHref({ ...this.query, ...changes });
    if (!replace) return nav.go(href);
    history.replaceState(null, '', href);
    this.enter();
  }

  /** Reads the first page anew. */
  async load(): Promise<void> {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.loading = true;
    await this.read(async () => {
      const page = await get<RunsPage>(pagePath(this.query, null, PAGE), asking.signal);
      this.blocks = [{ after: null, rows: page.runs }];
      [this.next, this.total, this.moved, this.last] = [page.next, page.total, false, null];
      this.asked = true;
      this.select(this.selected);
    });
    if (this.asking === asking) this.loading = false;
    void this.count();
  }

  /** Reads the page behind the last one. */
  async loadMore(): Promise<void> {
    const { next: after, query } = this;
    if (after === null || this.loading) return;
    this.loading = true;
    await this.read(async () => {
      const page = await get<RunsPage>(pagePath(query, after, PAGE), this.asking?.signal);
      const known = new Set(this.blocks.flatMap(({ rows }) => rows).map(({ id }) => id));
      this.blocks = [...this.blocks, { after, rows: page.runs.filter(({ id }) => !known.has(id)) }];
      this.next = page.next;
    });
    if (query === this.query) this.loading = false;
  }

  /** Looks after live rows until the answer is called. */
  watch(): () => void {
    const look = async (): Promise<void> => {
      if (!document.hidden && this.rows.some(({ status }) => !isOver(status))) await this.refresh();
      this.timer = window.setTimeout(() => void look(), PACE);
    };
    this.timer = window.setTimeout(() => void look(), PACE);
    const seen = (): void => void (document.hidden || this.refresh());
    document.addEventListener('visibilitychange', seen);
    return () => {
      clearTimeout(this.timer);
      document.removeEventListener('visibilitychange', seen);
    };
  }

  /** Asks anew for the first page and for pages with live rows; rows stay in their places. */
  private async refresh(): Promise<void> {
    const { query } = this;
    const stale = this.blocks.filter(({ rows }, i) => i === 0 || rows.some(({ status }) => !isOver(status))).slice(0, 4);
    await this.read(async () => {
      for (const { after } of stale) {
        const page = await get<RunsPage>(pagePath(query, after, PAGE), this.asking?.signal);
        if (query !== this.query) return;
        const known = new Set(this.blocks.flatMap(({ rows }) => rows).map(({ id }) => id));
        this.blocks = this.blocks.map((block) => {
          if (block.after !== after) return block;
          const { rows, moved } = freshen(block.rows, page.runs, known);
          if (moved) this.moved = true;
          return { after, rows };
        });
        this.total = page.total;
      }
    });
  }

  /** Reads what can be filtered by; that this came does not end the list's trouble. */
  private async count(): Promise<void> {
    try {
      this.facets = await get<Facets>('/api/runs/facets');
    } catch (error) {
      this.trouble ??= sentence(error);
    }
  }

  // -- the selection ------------------------------------------------------------------------------------

  click(id: string, span: boolean): void {
    const ids = this.rows.map((row) => row.id);
    this.selected = clicked(this.selected, ids, id, span ? this.last : null);
    this.last = id;
  }

  /** Selects these, as far as they are shown: no act reaches a row that cannot be seen. */
  select(ids: Iterable<string>): void {
    const shown = new Set(this.rows.map(({ id }) => id));
    this.selected = new Set([...ids].filter((id) => shown.has(id)));
  }

  // -- acts ---------------------------------------------------------------------------------------------

  /** Sets a run's name; a refusal is answered with its sentence. */
  async rename(id: string, name: string): Promise<string | null> {
    try {
      await this.label(id, { name: name.trim() || null });
      return null;
    } catch (error) {
      return sentence(error);
    }
  }

  /** Gives a tag to all chosen runs, or takes it from them; a refusal is answered with its sentence. */
  async tag(tag: string, on: boolean): Promise<string | null> {
    try {
      for (const { id, tags } of this.chosen) {
        if (tags.includes(tag) !== on) await this.label(id, { tags: on ? [...tags, tag] : tags.filter((each) => each !== tag) });
      }
      return null;
    } catch (error) {
      return sentence(error);
    } finally {
      void this.count();
    }
  }

  /** Deletes the chosen runs; all that were deleted within the time of the undo come back by it. */
  async remove(): Promise<void> {
    const ids = this.chosen.map(({ id }) => id);
    await this.attempt(async () => {
      for (const batch of batches(ids)) {
        await post('/api/runs/delete', { ids: batch });
        this.deleted = new Set([...this.deleted, ...batch]);
        if (this.total !== null) this.total -= batch.length;
        this.undoing.start();
      }
    });
    this.select(this.selected);
    void this.count();
  }

  async undo(): Promise<void> {
    this.undoing.stop();
    const ids = [...this.deleted];
    const known = new Set(this.blocks.flatMap(({ rows }) => rows).map(({ id }) => id));
    await this.attempt(async () => {
      for (const batch of batches(ids)) {
        await post('/api/runs/restore', { ids: batch });
        this.deleted = new Set([...this.deleted].filter((id) => !batch.includes(id)));
        if (this.total !== null) this.total += batch.length;
      }
    });
    if (this.deleted.size) this.undoing.start(); // it can be tried again
    if (ids.some((id) => !known.has(id))) await this.load();
    else void this.count();
  }

  /** What was deleted is gone for this page. */
  private forget(): void {
    this.blocks = this.blocks.map(({ after, rows }) => ({ after, rows: rows.filter(({ id }) => !this.deleted.has(id)) }));
    this.deleted = new Set();
  }

  /** Reads files of runs, one after the other. */
  async take(files: Iterable<File>): Promise<void> {
    let came = 0;
    this.notice = this.problem = null;
    const failed: string[] = [];
    for (const file of files) {
      try {
        came += (await upload<{ ids: string[] }>('/api/import', file)).ids.length;
      } catch (error) {
        failed.push(`${file.name}: ${sentence(error)}`);
      }
    }
    if (came) {
      this.notice = `${plural(came, 'run')} imported`;
      await this.load();
    }
    this.problem = failed.join('\n') || null;
  }

  private async label(id: string, changes: { name: string | null } | { tags: string[] }): Promise<void> {
    const said = await patch<Labelled>(`/api/runs/${encodeURIComponent(id)}`, changes);
    this.blocks = this.blocks.map(({ after, rows }) => ({
      after,
      rows: rows.map((row) => (row.id === id ? { ...row, name: said.name, tags: said.tags } : row)),
    }));
  }

  /** Does it; a refusal is said, and nothing else changes. */
  async attempt(act: () => Promise<void>): Promise<void> {
    this.problem = null;
    try {
      await act();
    } catch (error) {
      this.problem = sentence(error);
    }
  }

  /** Reads something; what is there stays when that fails. */
  private async read(act: () => Promise<void>): Promise<void> {
    try {
      await act();
      this.trouble = null;
    } catch (error) {
      if (!(error instanceof DOMException && error.name === 'AbortError')) this.trouble = sentence(error);
    }
  }
}

export const runs = new Runs();
