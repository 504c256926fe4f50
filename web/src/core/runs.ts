/** The Runs screen without a page: its address, its selection, and how its rows are kept fresh. */

import type { RunRow as Row, RunsPage as Page } from './api.d.ts';
import type { Spec, Status } from './events.ts';
import { count } from './format.ts';
import { isOver } from './reducer.ts';

export type { Facet, Facets } from './api.d.ts';

/** A run as lists show it; the long parts of its spec are left out. */
export type RunRow = Omit<Row, 'spec'> & { spec: Omit<Spec, 'system' | 'user' | 'transition' | 'fork'> };
export type RunsPage = Omit<Page, 'runs'> & { runs: RunRow[] };

/** What can be sorted by, with the order that comes first. */
export const SORTS = {
  created: 'desc',
  name: 'asc',
  strategy: 'asc',
  model: 'asc',
  seed: 'asc',
  steps: 'desc',
  tokens_per_second: 'desc',
} as const;
export type Sort = keyof typeof SORTS;
export type Order = 'asc' | 'desc';

export const FILTERS = ['strategy', 'model', 'status', 'tag', 'parent', 'imported'] as const;
export type Filter = (typeof FILTERS)[number];

/** What the list shows; an empty filter lets all pass. */
export type Query = Record<Filter, string> & { search: string; sort: Sort; order: Order };

export const ALL: Query = {
  search: '', strategy: '', model: '', status: '', tag: '', parent: '', imported: '', sort: 'created', order: 'desc',
};

export function parseQuery({ searchParams: given }: URL): Query {
  const sort = given.get('sort') ?? '';
  const chosen: Sort = Object.hasOwn(SORTS, sort) ? (sort as Sort) : 'created';
  const order = given.get('order');
  const query: Query = { ...ALL, search: given.get('q') ?? '', sort: chosen, order: SORTS[chosen] };
  if (order === 'asc' || order === 'desc') query.order = order;
  for (const filter of FILTERS) query[filter] = given.get(filter) ?? '';
  return query;
}

/** The address of a query: `/runs?q=…&strategy=…&sort=…`, without what goes without saying. */
export function runsHref(query: Query): string {
  const said = new URLSearchParams();
  if (query.search) said.set('q', query.search);
  for (const filter of FILTERS) if (query[filter]) said.set(filter, query[filter]);
  if (query.sort !== 'created') said.set('sort', query.sort);
  if (query.order !== SORTS[query.sort]) said.set('order', query.order);
  return `/runs${said.size ? `?${said}` : ''}`;
}

/** The request for a page of the list. */
export function pagePath(query: Query, after: string | null, limit: number): string {
  const asked = new URLSearchParams({ sort: query.sort, order: query.order, limit: String(limit) });
  if (query.search.trim()) asked.set('search', query.search.trim());
  for (const filter of FILTERS) if (query[filter]) asked.set(filter, query[filter]);
  if (after !== null) asked.set('after', after);
  return `/api/runs?${asked}`;
}

export function isFiltered(query: Query): boolean {
  return query.search !== '' || FILTERS.some((filter) => query[filter] !== '');
}

/** The query after a press on a column's head: its first order, then the other. */
export function sortedBy(query: Query, sort: Sort): Query {
  if (query.sort !== sort) return { ...query, sort, order: SORTS[sort] };
  return { ...query, order: query.order === 'asc' ? 'desc' : 'asc' };
}

/** The selection after a click on the box of a row; `from` is the row clicked before, when shift asks for all between. */
export function clicked(
  selected: ReadonlySet<string>,
  ids: readonly string[],
  id: string,
  from: string | null,
): ReadonlySet<string> {
  const after = new Set(selected);
  const [a, b] = [ids.indexOf(from ?? id), ids.indexOf(id)];
  const span = a < 0 ? [id] : ids.slice(Math.min(a, b), Math.max(a, b) + 1);
  for (const each of span) selected.has(id) ? after.delete(each) : after.add(each);
  return after;
}

/** Rows as the server has them now, each in its place; `moved` says that others came, or live ones left their place. */
export function freshen(
  rows: readonly RunRow[],
  fresh: readonly RunRow[],
  known: ReadonlySet<string>,
): { rows: RunRow[]; moved: boolean } {
  const now = new Map(fresh.map((row) => [row.id, row]));
  const kept = rows.filter((row) => isOver(row.status) || now.has(row.id));
  // behind the last known row the next page begins: those are no news
  const came = fresh.slice(0, fresh.findLastIndex(({ id }) => known.has(id)) + 1).some(({ id }) => !known.has(id));
  return { rows: kept.map((row) => now.get(row.id) ?? row), moved: came || kept.length < rows.length };
}

/** How many runs one request may name. */
export const MOST = 200;

/** Lists that one request may carry. */
export function batches(ids: readonly string[]): string[][] {
  return Array.from({ length: Math.ceil(ids.length / MOST) }, (_, i) => ids.slice(i * MOST, (i + 1) * MOST));
}

/** The first line that says something. */
export function firstLine(text: string): string {
  return text.trim().split('\n', 1)[0] ?? '';
}

/** All of its lines in one. */
export function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, ' ↵ ');
}

export const COMPARED = { least: 2, most: 4 };

export function compareHref(ids: readonly string[]): string {
  return `/compare?runs=${ids.map(encodeURIComponent).join(',')}`;
}

/** The request for a file with these runs. */
export function exportPath(ids: readonly string[], format: string): string {
  const named = ids.map(encodeURIComponent).join(',');
  return ids.length === 1 ? `/api/runs/${named}/export?format=${format}` : `/api/export?runs=${named}&format=${format}`;
}

/** What one picture may show: beyond it, nobody could open or read the file. */
export const PICTURED = { runs: 20, steps: 20_000 };

/** Why these runs are too much for one picture; one run never is. */
export function tooMuch(rows: readonly Pick<RunRow, 'steps'>[]): string | null {
  const steps = rows.reduce((sum, row) => sum + row.steps, 0);
  if (rows.length > PICTURED.runs) return `at most ${PICTURED.runs} runs; ${count(rows.length)} are selected`;
  if (rows.length < 2 || steps <= PICTURED.steps) return null;
  return `at most ${count(PICTURED.steps)} steps; these runs have ${count(steps)}`;
}

/** What stands for a status in one character. */
export const SIGNS: Record<Status, string> = {
  queued: '…', running: '▶', paused: '❚❚', finished: '✓', cancelled: '■', failed: '✗',
};
