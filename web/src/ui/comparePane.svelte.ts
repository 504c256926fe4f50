/** One pane of the comparison: what it is to run, the runs it started, and the drawing of the one that is shown. */

import { Picture } from '../canvas/picture.ts';
import { drafted, type Plan } from '../core/comparison.ts';
import { bodyOf, checkDraft, type Draft, draftOf } from '../core/draft.ts';
import type { RunEvent, Step, StrategyInfo } from '../core/events.ts';
import { type Facts, Glance } from '../core/facts.ts';
import { answerOf, apply, isOver, newRun, type RunState } from '../core/reducer.ts';
import type { Outcome } from '../core/repeats.ts';
import { form } from './form.svelte.ts';
import { shelf } from './models.svelte.ts';

const NEAR = 32; // px from the end that count as being there

/** What all panes share. */
export interface Shared {
  readonly plan: Plan;
  readonly selected: number | null;
  hovered: number | null;
  select(step: number | null): void;
}

/** What a draft asks for, as text; the server's own model has no name there, whether or not it was named. */
function bodyWith(draft: Draft, strategy: StrategyInfo): string {
  return JSON.stringify(bodyOf({ ...draft, model: draft.model === null ? null : shelf.named(draft.model) }, strategy));
}

export class Pane {
  readonly picture = new Picture();
  draft = $state<Draft>() as Draft;
  /** Its runs, one a seed; the one whose steps are shown comes first. */
  ids = $state.raw<string[]>([]);
  facts = $state.raw<Facts | null>(null);
  outcomes = $state.raw<Outcome[]>([]);
  problem = $state<string | null>(null);
  /** Where it stands in the queue, in words. */
  place = $state('');
  run: RunState | null = null;
  /** What scrolls its steps, while it is on the page. */
  box: HTMLElement | null = null;
  private ran = $state.raw<{ draft: Draft; repeats: number } | null>(null);
  private glance = new Glance();
  private atEnd = true;

  constructor(
    private readonly shared: Shared,
    draft: Draft,
    ids: string[],
  ) {
    this.draft = draft;
    this.ids = ids;
    if (ids[0]) this.open(ids[0]);
  }

  readonly strategy: StrategyInfo | undefined = $derived(form.find(this.draft.strategy));
  readonly faults = $derived.by(() => checkDraft(drafted(this.draft, this.shared.plan), this.strategy));
  /** The body of its next run; null while its settings have faults. */
  readonly body = $derived.by(() =>
    this.strategy && !Object.keys(this.faults).length ? bodyOf(drafted(this.draft, this.shared.plan), this.strategy) : null,
  );
  /** Whether its runs, if there are any, are not those of the settings. */
  readonly due = $derived.by(() => {
    const { plan } = this.shared;
    if (!this.ran || !this.ids.length) return this.ids.length === 0;
    if (!this.strategy) return false;
    const asked = bodyWith(drafted(this.draft, plan), this.strategy);
    const before = form.find(this.ran.draft.strategy);
    return this.ran.repeats !== plan.repeats || !before || asked !== bodyWith(this.ran.draft, before);
  });

  // -- a board of steps, as `Pointing` has it -------------------------------------------------------------

  get id(): string | null {
    return this.ids[0] ?? null;
  }

  get selected(): number | null {
    return this.shared.selected;
  }

  get hovered(): number | null {
    return this.shared.hovered;
  }

  set hovered(step: number | null) {
    this.shared.hovered = step;
  }

  select(step: number | null): void {
    this.shared.select(step);
  }

  // -- runs -----------------------------------------------------------------------------------------------

  get live(): boolean {
    return this.run !== null && !isOver(this.run.status);
  }

  get steps(): readonly Step[] {
    return this.run?.steps ?? [];
  }

  /** The answer so far; not reactive: read it when `facts` changes. */
  get answer(): string {
    return this.run ? answerOf(this.run) : '';
  }

  /** Forgets its runs, for those to come. */
  begin(): void {
    const { plan } = this.shared;
    this.ran = { draft: drafted($state.snapshot(this.draft), plan), repeats: plan.repeats };
    this.ids = [];
    this.outcomes = [];
    this.problem = null;
    this.run = this.facts = null;
    this.picture.clear();
  }

  /** Another run of its seeds. */
  started(id: string): void {
    this.ids = [...this.ids, id];
    if (!this.run) this.open(id);
  }

  /** Shows the steps of another of its runs. */
  show(id: string): void {
    if (id === this.id) return;
    this.ids = [id, ...this.ids.filter((each) => each !== id)];
    this.open(id);
  }

  /** The first of its seeds. */
  get base(): number | null {
    const seeds = this.ids.length > 1 ? this.outcomes.map(({ seed }) => seed) : [this.run?.spec?.seed ?? 0];
    return seeds.length < this.ids.length ? null : Math.min(...seeds);
  }

  /** Takes over the settings of a run that was there before this page; its form too, unless it has one. */
  adopt(formed: boolean): void {
    const [spec, base] = [this.run?.spec, this.base];
    if (this.ran || !spec || base === null) return;
    const draft = draftOf({ ...spec, seed: base });
    this.ran = { draft, repeats: this.ids.length };
    if (!formed) this.draft = draftOf(spec);
  }

  take(event: RunEvent): void {
    if (this.run) apply(this.run, event);
  }

  private open(id: string): void {
    this.picture.clear();
    this.run = newRun(id);
    this.atEnd = true;
    this.facts = this.look(this.run);
  }

  // -- drawing --------------------------------------------------------------------------------------------

  /** Draws what is new; true when there is more to draw. */
  paint(budget: number): boolean {
    if (!this.run) return false;
    const more = this.picture.paint(this.run, budget);
    this.facts = this.look(this.run);
    this.picture.select(this.shared.selected);
    return more;
  }

  /** Stays at the end while the reader is there and the run goes on. */
  stick(): void {
    if (this.box && this.live && this.atEnd && this.shared.selected === null) this.box.scrollTop = this.box.scrollHeight;
  }

  scrolled(): void {
    if (this.box) this.atEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < NEAR;
  }

  /** Scrolls its own box, and nothing else, until a step is seen; false while it is not drawn. */
  reveal(step: number): boolean {
    const element = this.picture.elements[step];
    if (!element || !this.box) return false;
    const [inner, outer] = [element.getBoundingClientRect(), this.box.getBoundingClientRect()];
    if (inner.top >= outer.top && inner.bottom <= outer.bottom) return true;
    this.box.scrollTop += inner.top - outer.top - (outer.height - inner.height) / 2;
    return true;
  }

  private look(run: RunState): Facts {
    return this.glance.of(run, performance.now(), form.find(run.spec?.strategy.name)?.thinks);
  }
}
