/** What came of the runs of repeats, and who waits for a turn: asked for once a second while something goes on. */

import type { Queue } from '../core/api.d.ts';
import { ordinal } from '../core/queue.ts';
import type { Outcome } from '../core/repeats.ts';
import { get } from './api.ts';
import type { Pane } from './comparePane.svelte.ts';

const PACE = 1000; // ms
const MOST = 64; // runs in one question

export class Outcomes {
  private timer = 0;

  constructor(
    private readonly panes: () => readonly Pane[],
    private readonly changed: () => void,
  ) {}

  /** Asks now, and again until nothing is left to ask for. */
  start(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.ask(), 0);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = 0;
  }

  private async ask(): Promise<void> {
    const { timer } = this;
    const asked = this.open.slice(0, MOST);
    let wait = PACE;
    const waits = this.panes().some(({ facts }) => facts?.status === 'queued');
    if (!asked.length && !waits) return;
    try {
      if (asked.length) {
        const found = await get<Outcome[]>(`/api/outcomes?runs=${asked.map(encodeURIComponent).join(',')}`);
        this.take(found);
        if (found.every(({ answer }) => answer !== null)) wait = 0; // an old comparison: the rest is there as well
      }
      const queue = waits ? await get<Queue>('/api/queue') : null;
      for (const pane of this.panes()) pane.place = placeOf(pane, queue);
    } catch {
      // the stream of events says when the server is gone; this asks again
    }
    if (timer !== this.timer) return; // asked anew meanwhile
    this.timer = window.setTimeout(() => void this.ask(), wait);
  }

  /** The runs of repeats that are not known to be over, in the order in which they were started. */
  private get open(): string[] {
    const found = this.panes().flatMap(({ ids, outcomes }) => {
      const over = new Set(outcomes.filter(({ answer }) => answer !== null).map(({ id }) => id));
      return ids.length > 1 ? ids.map((id, at) => ({ id, at })).filter(({ id }) => !over.has(id)) : [];
    });
    return found.sort((a, b) => a.at - b.at).map(({ id }) => id);
  }

  private take(found: readonly Outcome[]): void {
    const fresh = new Map(found.map((outcome) => [outcome.id, outcome]));
    for (const pane of this.panes()) {
      if (!pane.ids.some((id) => fresh.has(id))) continue;
      const known = new Map(pane.outcomes.map((outcome) => [outcome.id, outcome]));
      pane.outcomes = pane.ids.flatMap((id) => fresh.get(id) ?? known.get(id) ?? []);
    }
    this.changed();
  }
}

function placeOf(pane: Pane, queue: Queue | null): string {
  const at = queue?.runs.find(({ id }) => id === pane.id)?.position;
  return at === undefined || at === null ? '' : `${ordinal(at)} in the queue`;
}
