/** Branching from the step in the inspector: which panel is open, what the branch goes on with, what the server said. */

import type { Created } from '../core/api.d.ts';
import type { Fork } from '../core/events.ts';
import { changesOf, ownOf, settingsOf } from '../core/steer.ts';
import { post, Problem } from './api.ts';
import { family } from './family.svelte.ts';
import { form } from './form.svelte.ts';
import { lab } from './lab.svelte.ts';

export type Panel = 'edit' | 'branch' | 'force';

class Steering {
  panel = $state<Panel | null>(null);
  /** Whether a branch goes on with its parent's settings, else with those of the form. */
  keeps = $state(true);
  /** The parent's settings as typed over. */
  own = $state<Record<string, string>>({});
  sending = $state(false);
  refused = $state<string | null>(null);

  /** Opens a panel for the selected step; the same act again closes it. False without a step to act on. */
  toggle(panel: Panel): boolean {
    const { facts, selected } = lab;
    if (!facts?.spec || lab.example || selected === null || !lab.step(selected)) return false;
    this.refused = null;
    this.own = ownOf(facts.spec);
    this.panel = this.panel === panel ? null : panel;
    return true;
  }

  close(): void {
    this.panel = this.refused = null;
  }

  /** What the branch changes of its parent's settings; null while a field has a fault. */
  changes(): Record<string, unknown> | null {
    const spec = lab.facts?.spec;
    if (!spec) return null;
    if (this.keeps) return changesOf(spec, this.own);
    const wrong = Object.keys(form.faults).some((path) => path !== 'user'); // the prompt stays
    return form.strategy && !wrong ? settingsOf(form.draft, form.strategy) : null;
  }

  /** Starts a child of the run on the page and goes there. */
  async fork(step: number, mixture: Fork['mixture']): Promise<void> {
    const changes = this.changes();
    const parent = lab.id;
    if (!changes || parent === null || this.sending) return;
    this.sending = true;
    this.refused = null;
    try {
      const { id } = await post<Created>(`/api/runs/${encodeURIComponent(parent)}/fork`, { ...changes, step, mixture });
      this.close();
      family.grown(parent);
      lab.visit(id, step);
    } catch (error) {
      this.refused = error instanceof Problem ? error.message : String(error);
    } finally {
      this.sending = false;
    }
  }
}

export const steering = new Steering();
