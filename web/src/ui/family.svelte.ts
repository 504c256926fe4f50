/** The runs that were branched from one another around the run on the page. */

import { untrack } from 'svelte';
import type { Family as Tree } from '../core/api.d.ts';
import type { Relative } from '../core/events.ts';
import { get } from './api.ts';

class Family {
  runs = $state.raw<Relative[]>([]);
  private readonly tabs = new BroadcastChannel('superpose.family');

  /**
   * Reads the family of a run: now, when another tab has branched from it, and when its reader comes back to this one.
   * Until the answer is called; without an answer of the server what was known stays.
   */
  follow(run: string): () => void {
    let over = false;
    const read = async (): Promise<void> => {
      const found = await get<Tree>(`/api/runs/${encodeURIComponent(run)}/family`).catch(() => null);
      if (!over && found) this.runs = found.runs;
    };
    const hear = ({ data }: MessageEvent<string>): void => {
      if (this.find(data)) void read();
    };
    // Another family. Untracked: an effect that read here what it writes would run for ever.
    if (!untrack(() => this.find(run))) this.runs = [];
    this.tabs.addEventListener('message', hear);
    window.addEventListener('focus', read);
    void read();
    return () => {
      over = true;
      this.tabs.removeEventListener('message', hear);
      window.removeEventListener('focus', read);
    };
  }

  /** Tells other tabs that a run has a new child. */
  grown(parent: string): void {
    this.tabs.postMessage(parent);
  }

  find(run: string): Relative | null {
    return this.runs.find(({ id }) => id === run) ?? null;
  }
}

export const family = new Family();
