/** The event stream of one run or of several: replay, live, and again after a lost connection. */

import type { RunEvent, Step } from '../core/events.ts';
import { get, Problem } from './api.ts';

export type Connection = 'connecting' | 'live' | 'reconnecting' | 'missing' | 'closed';

const TERMINAL = new Set(['run_finished', 'run_cancelled', 'run_failed']);
const WAITS = [500, 1000, 2000, 4000]; // ms between attempts of our own

/**
 * Watches runs, on one connection, until all are over or `close` is called. The browser resumes a cut stream by
 * itself, with the number of the last event; where it gives up, this tries anew after that number. Doubles are the
 * reducer's to drop.
 */
export function watch(
  runs: readonly string[],
  on: { event(event: RunEvent): void; connection(state: Connection): void },
): () => void {
  let source: EventSource | null = null;
  let timer = 0;
  let failures = 0;
  let closed = false;
  let position = 0; // of the last event among all of the server
  const going = new Set(runs);
  const query = `runs=${runs.map(encodeURIComponent).join(',')}`;

  const close = (state: Connection | null): void => {
    closed = true;
    clearTimeout(timer);
    source?.close();
    window.removeEventListener('online', back);
    if (state) on.connection(state);
  };

  const retry = async (): Promise<void> => {
    const wait = WAITS[Math.min(failures++, WAITS.length - 1)] ?? 4000;
    try {
      await Promise.all([get(`/api/outcomes?${query}`), pause(wait)]);
      if (!closed) open();
    } catch (error) {
      if (closed) return;
      if (error instanceof Problem && error.status === 404) close('missing');
      else timer = window.setTimeout(() => void retry(), wait);
    }
  };

  const open = (): void => {
    source?.close(); // two attempts may cross
    source = new EventSource(`/api/events?${query}&after=${position}`);
    source.onopen = () => {
      failures = 0;
      on.connection('live');
    };
    source.onmessage = ({ data, lastEventId }: MessageEvent<string>) => {
      const event = JSON.parse(data) as RunEvent;
      position = Number(lastEventId);
      on.event(event);
      if (TERMINAL.has(event.type)) going.delete(event.run);
      if (!going.size) close('closed');
    };
    source.onerror = () => {
      if (closed) return;
      on.connection(failures || position > 0 ? 'reconnecting' : 'connecting');
      if (source?.readyState === EventSource.CLOSED) void retry();
    };
  };

  // a network that was away may have left a dead connection behind, which no error tells of
  const back = (): void => {
    clearTimeout(timer);
    if (!closed) open();
  };

  on.connection('connecting');
  open();
  window.addEventListener('online', back);
  return () => close(null);
}

/**
 * Gives one recorded step of a run, and nothing where there is none. Step n has a number above n, as events come
 * before the first step: so reading begins close to it, and the whole of a long run is never fetched.
 */
export function recordedStep(id: string, step: number, found: (step: Step) => void): () => void {
  const source = new EventSource(`/api/runs/${encodeURIComponent(id)}/events?after=${step}`);
  source.onmessage = ({ data }: MessageEvent<string>) => {
    const event = JSON.parse(data) as RunEvent;
    if (event.type === 'step' && event.step === step) found(event);
    if (TERMINAL.has(event.type) || (event.type === 'step' && event.step >= step)) source.close();
  };
  source.onerror = () => source.close();
  return () => source.close();
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
