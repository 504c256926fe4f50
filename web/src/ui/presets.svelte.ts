/** The reader's saved forms, in this browser; other tabs see a change at once. */

import { MOST_SAVED, parseSaved, type Saved, withSaved } from '../core/presets.ts';
import { form } from './form.svelte.ts';

const KEY = 'superpose.presets';

class Presets {
  saved = $state.raw<Saved[]>(this.read());
  /** The one that was removed last, to be brought back. */
  removed = $state.raw<Saved | null>(null);
  problem = $state<string | null>(null);

  constructor() {
    window.addEventListener('storage', ({ key }) => {
      if (key === KEY || key === null) this.saved = this.read();
    });
  }

  has(name: string): boolean {
    return this.saved.some((each) => each.name === name);
  }

  /** Saves the form under a name, in place of what had it. */
  save(name: string): void {
    this.keep({ name, draft: $state.snapshot(form.draft) });
  }

  remove(one: Saved): void {
    this.write(this.read().filter(({ name }) => name !== one.name));
    if (!this.problem) this.removed = one;
  }

  /** Brings back what was removed last. */
  restore(): void {
    if (this.removed) this.keep(this.removed);
    this.removed = null;
  }

  private keep(one: Saved): void {
    const saved = withSaved(this.read(), one); // another tab may have saved since
    if (saved.length > MOST_SAVED) this.problem = `There is room for ${MOST_SAVED}; remove one first`;
    else this.write(saved);
  }

  private read(): Saved[] {
    return parseSaved(localStorage.getItem(KEY));
  }

  private write(saved: Saved[]): void {
    this.problem = null;
    try {
      localStorage.setItem(KEY, JSON.stringify(saved));
      this.saved = saved;
    } catch {
      this.problem = 'This browser has no room left to save it';
    }
  }
}

export const presets = new Presets();
