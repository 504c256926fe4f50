/** The runs that were branched from one another around the run on the page. */

import type { Family as Tree } from '../core/api.d.ts';
import type { Relative } from '../core/events.ts';
import { get } from './api.ts';

class Family {
  runs = $state.raw<Relative[]>([]);

  /** Reads the family of a run; without an answer there is none to show. */
  async load(run: string): Promise<void> {
    try {
      this.runs = (await get<Tree>(`/api/runs/${encodeURIComponent(run)}/family`)).runs;
    } catch {
      this.runs = [];
    }
  }

  find(run: string): Relative | null {
    return this.runs.find(({ id }) => id === run) ?? null;
  }
}

export const family = new Family();
