/** The comparison on the page: its panes, what they share, and the one step that all of them point at. */

import { Slots } from '../canvas/slots.ts';
import type { Created } from '../core/api.d.ts';
import { type Course, Divergence } from '../core/compare.ts';
import { addressOf, MOST_PANES, parseAddress, type Plan, planOf } from '../core/comparison.ts';
import { type Draft, newDraft } from '../core/draft.ts';
import type { RunEvent, Spec } from '../core/events.ts';
import { isOver } from '../core/reducer.ts';
import type { By } from '../core/repeats.ts';
import type { View } from '../core/route.ts';
import { post, Problem } from './api.ts';
import { Pane, type Shared } from './comparePane.svelte.ts';
import { Outcomes } from './compareOutcomes.ts';
import { form } from './form.svelte.ts';
import { Frames } from './frames.ts';
import { lab } from './lab.svelte.ts';
import { shelf } from './models.svelte.ts';
import { type Connection, watch } from './watch.ts';

/** Where a pane parts from the reference; replaced when something is found, never once a token. */
export type Parting = Pick<Divergence, 'readout' | 'fed' | 'way'>;

class Comparison implements Shared {
  panes = $state.raw<Pane[]>([]);
  plan = $state<Plan>({ model: null, system: '', user: '', seed: '', repeats: 1, panes: [] });
  reference = $state(0);
  selected = $state<number | null>(null);
  hovered = $state<number | null>(null);
  view = $state<View>('stack');
  by = $state<By>('text');
  connection = $state<Connection>('closed');
  partings = $state.raw<Parting[]>([]);
  pending = $state<'nothing' | 'waiting' | 'sending'>('nothing');
  /** After the first try every fault is shown. */
  tried = $state(false);
  problem = $state<string | null>(null);
  /** The dialog: a pane to change, or one to add. */
  picking = $state<Pane | 'new' | null>(null);

  private own = true; // the panes have settings of their own; else those of their runs are to come
  private divergences: Divergence[] = [];
  private leave: (() => void) | null = null;
  private revealing: number | null = null;
  private slots = new Slots();
  private unslot: (() => void)[] = [];
  private readonly frames = new Frames((budget) => this.draw(budget));
  private readonly outcomes = new Outcomes(() => this.panes, () => this.adopt());

  /** The panes that *Run* would run. */
  readonly due = $derived(this.panes.filter((pane) => pane.due));

  // -- coming and going -----------------------------------------------------------------------------------

  /** Shows what the address names; what is here already where it names nothing. */
  enter(): void {
    const url = new URL(location.href);
    const { runs, plan, reference, step, view, by } = parseAddress(url);
    const here = (!runs.length && !plan) || url.href === new URL(this.href(), url).href;
    if (here && this.panes.length) {
      this.subscribe(); // what went on while another screen was shown
      return;
    }
    this.view = view ?? lab.view;
    this.by = by;
    if (plan) this.use(plan, runs);
    else if (runs.length) this.use({ ...this.plan, repeats: runs[0]?.length ?? 1, panes: runs.map(newDraft) }, runs, false);
    else this.use(this.usual());
    this.compareWith(reference);
    this.select(step);
    this.revealing = step;
  }

  /** The address of what is shown. */
  href(): string {
    const open = this.panes.some((pane) => pane.due);
    const plan = open ? { ...$state.snapshot(this.plan), panes: this.panes.map(({ draft }) => $state.snapshot(draft)) } : null;
    const { reference, selected: step, view, by } = this;
    return addressOf({ runs: this.panes.map(({ ids }) => ids), plan, reference, step, view, by });
  }

  /** A run beside something that is still to be chosen. */
  beside(run: string, spec: Spec): void {
    this.use(planOf([spec], 1), [[run]]);
    this.picking = 'new';
  }

  /** The form of the Lab beside something that is still to be chosen. */
  besideForm(): void {
    this.use({ ...this.usual(), panes: [$state.snapshot(form.draft)] });
    this.picking = 'new';
  }

  /** What the form has, beside the plain baseline. */
  private usual(): Plan {
    const { model, system, user, values } = form.draft;
    const draft = $state.snapshot(form.draft);
    const other = { ...draft, strategy: draft.strategy === 'sample' ? 'non_uniform' : 'sample' };
    return { model, system, user, seed: values['seed'] ?? '', repeats: 1, panes: [draft, other] };
  }

  /** `own`: the plan has settings; else those of the runs are taken over as they come. */
  private use(plan: Plan, runs: string[][] = [], own = true): void {
    this.leave?.();
    this.plan = { ...plan, panes: [] };
    this.own = own;
    this.tried = false;
    this.pending = 'nothing';
    this.problem = null;
    this.reference = 0;
    this.selected = this.hovered = null;
    this.arrange(plan.panes.map((draft, i) => new Pane(this, draft, runs[i] ?? [])));
    this.subscribe();
  }
  close(): void {
    this.leave?.();
    this.outcomes.stop();
  }

  // -- panes ----------------------------------------------------------------------------------------------

  add(draft: Draft): void {
    if (this.panes.length < MOST_PANES) this.arrange([...this.panes, new Pane(this, draft, [])]);
  }

  change(pane: Pane, draft: Draft): void {
    pane.draft = draft;
  }

  remove(pane: Pane): void {
    const at = this.panes.indexOf(pane);
    this.arrange(this.panes.filter((each) => each !== pane));
    this.compareWith(at < this.reference ? this.reference - 1 : Math.min(this.reference, this.panes.length - 1));
    this.subscribe();
  }

  /** Makes a pane the one that the others are compared with. */
  compareWith(pane: number): void {
    this.reference = Math.max(0, Math.min(pane, this.panes.length - 1));
    this.divergences = this.panes.map(() => new Divergence());
    this.partings = this.panes.map(() => ({ readout: null, fed: null, way: null }));
    this.frames.soon();
  }

  private arrange(panes: Pane[]): void {
    for (const end of this.unslot) end();
    this.panes = panes;
    this.unslot = panes.map(({ picture }) => this.slots.join(picture));
    this.compareWith(this.reference);
  }

  // -- acts -----------------------------------------------------------------------------------------------

  /** Starts every pane that was not run as it stands, seed by seed; waits for the model if it is on its way. */
  async run(): Promise<void> {
    this.tried = true;
    if (!form.strategies.length) await form.loadStrategies(); // pressed before they came: no pane has a body without
    const { due } = this;
    if (this.pending === 'sending' || !due.length || due.some(({ body }) => body === null)) return;
    const model = shelf.find(this.plan.model);
    if (model?.status === 'available') void shelf.load(model.name);
    if (model?.status === 'available' || model?.status === 'loading') {
      this.pending = 'waiting';
      return;
    }
    if (!this.plan.seed.trim()) this.plan.seed = String(Math.floor(Math.random() * 2 ** 31));
    this.pending = 'sending';
    this.problem = null;
    const [seed, repeats] = [Number(this.plan.seed), this.plan.repeats];
    const bodies = due.map(({ body }) => body);
    for (const pane of due) pane.begin();
    for (let i = 0; i < repeats && this.pending === 'sending'; i++) {
      await Promise.all(due.map((pane, j) => this.start(pane, { ...bodies[j], seed: seed + i })));
      if (i > 0) continue;
      history.pushState(null, '', this.href());
      this.compareWith(this.reference);
      this.subscribe();
    }
    this.pending = 'nothing';
    this.outcomes.start();
  }

  private async start(pane: Pane, body: Record<string, unknown>): Promise<void> {
    if (pane.problem) return; // the first seed was refused
    try {
      pane.started((await post<Created>('/api/runs', body)).id);
    } catch (error) {
      pane.problem = error instanceof Problem ? error.message : String(error);
    }
  }

  /** The model has become ready or failed: does what was waiting for it. */
  modelChanged(): void {
    const model = shelf.find(this.plan.model);
    if (this.pending !== 'waiting' || (model?.status !== 'ready' && model?.status !== 'failed')) return;
    this.pending = 'nothing';
    if (model.status === 'ready') void this.run();
    else this.problem = model.error ?? `${model.name} could not be loaded`;
  }

  /** Asks the server to end every run of every pane; the page changes when its events say so. */
  async stop(): Promise<void> {
    this.pending = 'nothing';
    const ids = this.panes.flatMap((pane) => [
      ...(pane.live && pane.id ? [pane.id] : []),
      ...pane.ids.slice(1).filter((id) => !pane.outcomes.some((each) => each.id === id && each.answer !== null)),
    ]);
    try {
      await Promise.all(ids.map((id) => post(`/api/runs/${encodeURIComponent(id)}/cancel`)));
    } catch (error) {
      this.problem = error instanceof Problem ? error.message : String(error);
    }
  }

  /** Shows the steps of one of a pane's runs. */
  show(pane: Pane, id: string): void {
    pane.show(id);
    this.compareWith(this.reference);
    this.subscribe();
  }

  select(step: number | null): void {
    this.selected = step;
    this.revealing = step;
    this.frames.soon();
  }

  // -- events ---------------------------------------------------------------------------------------------

  /** Takes events of the panes in turn, and draws them at once: what `window.__superpose.compare` calls. */
  append(events: readonly (readonly RunEvent[])[]): void {
    events.forEach((some, i) => {
      const pane = this.panes[i];
      if (pane && !pane.run) {
        pane.begin();
        pane.started(some[0]?.run ?? 'appended');
      }
      for (const event of some) pane?.take(event);
    });
    this.draw(Infinity);
  }

  private subscribe(): void {
    this.leave?.();
    this.leave = null;
    const going = this.panes.filter(({ live }) => live);
    this.outcomes.start();
    if (!going.length) {
      this.connection = 'closed';
      return;
    }
    const ids = [...new Set(going.map(({ id }) => id ?? ''))];
    this.leave = watch(ids, {
      event: (event) => {
        for (const pane of this.panes) if (pane.id === event.run) pane.take(event);
        if (event.type === 'run_queued') this.adopt();
        this.frames.soon();
      },
      connection: (state) => (this.connection = state),
    });
  }

  /** Takes over the settings of runs that were there before this page: those of the first pane are everyone's. */
  private adopt(): void {
    const opened = this.panes.filter((pane) => pane.run?.spec && pane.base !== null);
    for (const pane of opened) pane.adopt(this.own);
    const spec = this.panes[0]?.run?.spec;
    if (this.own || !spec || opened.length < this.panes.length) return;
    this.own = true;
    this.plan = {
      ...this.plan, model: spec.model, system: spec.system, user: spec.user, seed: String(this.panes[0]?.base ?? spec.seed),
    };
    if (this.selected !== null) return;
    const child = this.panes.find(({ run }) => this.panes.some(({ id }) => id !== null && id === run?.spec?.fork?.run));
    if (child?.run?.spec?.fork) this.select(child.run.spec.fork.step); // where the two can differ at all
  }

  private draw(budget: number): boolean {
    const shares = budget / Math.max(1, this.panes.length);
    const more = this.panes.map((pane) => pane.paint(shares)).some(Boolean);
    const reference = courseOf(this.panes[this.reference]);
    const found = this.panes.map((pane, i) => {
      const course = courseOf(pane);
      if (i === this.reference || !course || !reference) return false;
      return this.divergences[i]?.advance(reference, course) ?? false;
    });
    if (found.some(Boolean)) this.partings = this.divergences.map(({ readout, fed, way }) => ({ readout, fed, way }));
    for (const pane of this.panes) pane.stick();
    if (this.revealing !== null) {
      const { revealing } = this;
      const seen = this.panes.map((pane) => pane.reveal(revealing) || (!pane.live && pane.steps.length <= revealing));
      if (seen.every(Boolean)) this.revealing = null;
    }
    return more;
  }
}

function courseOf(pane: Pane | undefined): Course | null {
  return pane?.run ? { steps: pane.run.steps, over: isOver(pane.run.status) } : null;
}

export const comparison = new Comparison();
