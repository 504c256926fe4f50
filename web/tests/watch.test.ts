import { afterEach, expect, test, vi } from 'vitest';
import { watch } from '../src/ui/watch.ts';

class Source {
  static made: Source[] = [];
  static readonly CLOSED = 2;
  readyState = 1;
  onerror: (() => void) | null = null;

  constructor() {
    Source.made.push(this);
  }

  close(): void {
    this.readyState = Source.CLOSED;
  }
}

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('attempts that cross leave one connection, and leaving closes it', async () => {
  vi.useFakeTimers();
  const page = new EventTarget();
  vi.stubGlobal('window', Object.assign(page, { setTimeout: globalThis.setTimeout }));
  vi.stubGlobal('EventSource', Source);
  vi.stubGlobal('fetch', () => Promise.resolve(Response.json([])));
  const leave = watch(['a'], { event: () => undefined, connection: () => undefined });
  const [first] = Source.made;
  first?.close();
  first?.onerror?.(); // the browser has given up: an attempt of our own begins
  page.dispatchEvent(new Event('online')); // and another one before it is done
  await vi.advanceTimersByTimeAsync(1000);
  expect(Source.made).toHaveLength(3);
  expect(Source.made.map(({ readyState }) => readyState)).toEqual([2, 2, 1]);
  leave();
  expect(Source.made.every(({ readyState }) => readyState === Source.CLOSED)).toBe(true);
});
