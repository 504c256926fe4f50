import { expect, test } from 'vitest';
import type { Ahead } from '../src/core/events.ts';
import { bytes, millions } from '../src/core/format.ts';
import { loadingWords, STAGES, stageOf } from '../src/core/loading.ts';
import { ordinal, placeWords } from '../src/core/queue.ts';

const run: Ahead = { id: 'a', model: 'toy', status: 'queued', position: 2, eta_s: 11.2, unread: 9, strategy: 'nucleus', user: 'x' };

test('places are counted as people do', () => {
  expect([1, 2, 3, 4, 11, 12, 13, 21, 22, 101].map(ordinal)).toEqual([
    '1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '22nd', '101st',
  ]);
});

test('a place is told with a bound, and without one while nothing is measured', () => {
  expect(placeWords(run)).toBe('2nd in line, ≤ 12 s');
  expect(placeWords({ ...run, eta_s: null })).toBe('2nd in line');
  expect(placeWords({ ...run, status: 'running', position: null, unread: 0 })).toBe('running, ≤ 12 s left');
  expect(placeWords({ ...run, status: 'running', position: null, unread: 0, eta_s: null })).toBe('running');
  expect(placeWords({ ...run, status: 'running', position: null, unread: 3210 })).toBe('3\u202f210 left to read, ≤ 12 s after that');
  expect(placeWords({ ...run, status: 'paused', position: null, eta_s: null })).toBe('paused');
});

test('a load is told by its stage and share', () => {
  expect(loadingWords({ stage: 'weights', done: 3, total: 4 })).toBe('reading weights · 75 %');
  expect(loadingWords({ stage: 'waiting', done: 0, total: 0 })).toBe('waiting for another to load');
  expect(loadingWords({ stage: null, done: 0, total: 0 })).toBe('loading');
  expect(STAGES.map((stage) => stageOf(stage))).toEqual([0, 1, 2, 3]);
  expect(['dequantising', 'waiting', null].map(stageOf)).toEqual([1, -1, -1]);
});

test('sizes keep two or three figures', () => {
  expect([0, 999, 14_745_600, 651_306_496, 6_200_000_000].map(bytes)).toEqual(['0 B', '999 B', '14 MiB', '621 MiB', '5.8 GiB']);
  expect([500, 134_515_008, 3_085_938_688].map(millions)).toEqual(['500', '135 M', '3.09 B']);
});
