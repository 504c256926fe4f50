import { describe, expect, it } from 'vitest';
import type { Spec } from '../src/core/events.ts';
import {
  ALL, batches, clicked, compareHref, exportPath, firstLine, freshen, isFiltered, MOST, oneLine, pagePath, parseQuery, type Query,
  type RunRow, runsHref, sortedBy,
} from '../src/core/runs.ts';
import { events } from './fixtures.ts';

const begun = events('run')[0] as unknown as { spec: Spec; created_at: string };

const row = (id: string, changes: Partial<RunRow> = {}): RunRow => ({
  id, created_at: begun.created_at, status: 'finished', name: null, tags: [], strategy: begun.spec.strategy.name,
  model: 'toy', seed: begun.spec.seed, steps: 40, tokens_per_second: 300, answer: '42', user: begun.spec.user,
  error: null, parent: null, fork_step: null, imported: false, spec: begun.spec, ...changes,
});

const parsed = (href: string): Query => parseQuery(new URL(href, 'http://x'));

describe('the address of the list', () => {
  it('holds search, filters and sort, and nothing that goes without saying', () => {
    expect(runsHref(ALL)).toBe('/runs');
    expect(runsHref({ ...ALL, search: 'a & b', strategy: 'nucleus', sort: 'steps' })).toBe('/runs?q=a+%26+b&strategy=nucleus&sort=steps');
    expect(runsHref({ ...ALL, sort: 'steps', order: 'asc' })).toBe('/runs?sort=steps&order=asc');
  });

  it('is read back as it was written', () => {
    const queries: Query[] = [
      ALL,
      { ...ALL, search: '100 % = ?', tag: 'a,b', imported: 'true', parent: 'abc', order: 'asc' },
      { ...ALL, model: 'Qwen/Qwen2.5', status: 'failed', sort: 'name', order: 'desc' },
    ];
    for (const query of queries) expect(parsed(runsHref(query))).toEqual(query);
  });

  it('takes nonsense for the default', () => {
    expect(parsed('/runs?sort=constructor&order=up&colour=red')).toEqual(ALL);
    expect(parsed('/runs?sort=steps').order).toBe('desc');
  });

  it('becomes a request for a page', () => {
    const path = pagePath({ ...ALL, search: ' so ', tag: 'best' }, 'x=y', 50);
    expect(path).toBe('/api/runs?sort=created&order=desc&limit=50&search=so&tag=best&after=x%3Dy');
    expect(pagePath(ALL, null, 9)).toBe('/api/runs?sort=created&order=desc&limit=9');
  });

  it('knows when it narrows', () => {
    expect(isFiltered({ ...ALL, sort: 'name' })).toBe(false);
    expect(isFiltered({ ...ALL, parent: 'abc' })).toBe(true);
    expect(isFiltered({ ...ALL, search: 'x' })).toBe(true);
  });

  it('sorts by a column first in its own order, then in the other', () => {
    const steps = sortedBy(ALL, 'steps');
    expect([steps.sort, steps.order]).toEqual(['steps', 'desc']);
    expect(sortedBy(steps, 'steps').order).toBe('asc');
    expect(sortedBy(sortedBy(steps, 'steps'), 'name').order).toBe('asc');
  });
});

describe('the selection', () => {
  const ids = ['a', 'b', 'c', 'd', 'e'];
  const after = (selected: string[], id: string, from: string | null): string[] => [...clicked(new Set(selected), ids, id, from)].sort();

  it('toggles one row', () => {
    expect(after([], 'b', null)).toEqual(['b']);
    expect(after(['b', 'd'], 'b', null)).toEqual(['d']);
  });

  it('takes all between two clicks, in both directions', () => {
    expect(after(['b'], 'd', 'b')).toEqual(['b', 'c', 'd']);
    expect(after(['d'], 'a', 'd')).toEqual(['a', 'b', 'c', 'd']);
    expect(after(['a', 'b', 'c', 'd'], 'd', 'b')).toEqual(['a']);
  });

  it('forgets a first click on a row that has gone', () => {
    expect(after([], 'c', 'gone')).toEqual(['c']);
  });

  it('leads to Compare', () => {
    expect(compareHref(['a', 'b&c'])).toBe('/compare?runs=a,b%26c');
  });
});

describe('fresh rows', () => {
  const known = new Set(['a', 'b', 'c', 'd']);

  it('take the places of the old ones', () => {
    const old = [row('a', { status: 'running' }), row('b')];
    const { rows, moved } = freshen(old, [row('a', { steps: 41 }), row('b')], known);
    expect(rows.map(({ id, status, steps }) => [id, status, steps])).toEqual([['a', 'finished', 41], ['b', 'finished', 40]]);
    expect(moved).toBe(false);
  });

  it('are announced when they come, not slipped under the pointer', () => {
    const { rows, moved } = freshen([row('a'), row('b')], [row('new'), row('a')], known);
    expect(rows.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(moved).toBe(true);
  });

  it('of the following page are no news', () => {
    expect(freshen([row('a'), row('b')], [row('a'), row('c'), row('z')], known).moved).toBe(false);
  });

  it('drop a live row that the query no longer finds, and keep finished ones', () => {
    const { rows, moved } = freshen([row('a', { status: 'running' }), row('b')], [], known);
    expect(rows.map(({ id }) => id)).toEqual(['b']);
    expect(moved).toBe(true);
  });
});

describe('small things', () => {
  it('cuts lists to what a request may carry', () => {
    const ids = Array.from({ length: 2 * MOST + 1 }, (_, i) => `run${i}`);
    expect(batches(ids).map(({ length }) => length)).toEqual([MOST, MOST, 1]);
    expect(batches(ids).flat()).toEqual(ids);
    expect(batches([])).toEqual([]);
  });

  it('asks for one run or several as a file', () => {
    expect(exportPath(['a'], 'csv')).toBe('/api/runs/a/export?format=csv');
    expect(exportPath(['a', 'b'], 'json')).toBe('/api/export?runs=a,b&format=json');
  });

  it('finds the line that says something', () => {
    expect(firstLine('\n\n The sum is 42.\nMore')).toBe('The sum is 42.');
    expect(firstLine('')).toBe('');
    expect(oneLine('\n\n The sum \n\n is 42.\nMore\n')).toBe('The sum ↵ is 42. ↵ More');
  });
});
