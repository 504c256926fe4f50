/** The run on the page: its events, its drawing, and the one selected and hovered step that everything shares. */

import { Picture } from '../canvas/picture.ts';
import type { Created, Standing } from '../core/api.d.ts';
import type { RunEvent, Step } from '../core/events.ts';
import { EXAMPLE } from '../core/example.ts';
import { type Facts, Glance } from '../core/facts.ts';
import { apply, isOver, newRun, type RunState } from '../core/reducer.ts';
import { hrefOf, isView, parseRoute, type View } from '../core/route.ts';
import { answers, type Ask, fulfilled, type Pending } from '../core/steer.ts';
import { post, Problem } from './api.ts';
import { charts } from './charts.svelte.ts';
import { examples } from './examples.ts';
import { follow } from './follow.svelte.ts';
import { form } from './form.svelte.ts';
import { Frames } from './frames.ts';
import { shelf } from './models.svelte.ts';
import { nav } from './nav.svelte.ts';
import { replay } from './replay.ts';
import { type Connection, watch } from './watch.ts';

const VIEW_KEY = 'superpose.view';
const SETTLE = 400; // ms from the first event until a replay has caught up

class Lab {
  readonly picture = new Picture();
  facts = $state.raw<Facts | null>(null);
  selected = $state<number | null>(null);
  hovered = $state<number | null>(null);
  view = $state<View>('stack');
  connection = $state<Connection>('closed');
  pending = $state<Pending>('nothing');
  /** When the cache of a paused run is given up, by `performance.now`; null where the pause was not seen to begin. */
  heldUntil = $state<number | null>(null);
  /** Why the server refused what was asked last. */
  refused = $state<string | null>(null);
  id = $state<string | null>(null);
  /** Whether this is the recorded example: drawn like any run, but none of the server's, and without an address. */
  example = $state(false);

  private run: RunState | null = null;
  private leave: (() => void) | null = null;
  private readonly frames = new Frames((budget) => this.draw(budget));
  private reveal = false;
  private readonly glance = new Glance();
  private settled = false; // the past is replayed: what comes now happens now

  constructor() {
    const saved = localStorage.getItem(VIEW_KEY);
    this.view = isView(saved) ? saved : window.matchMedia('(max-width: 640px)').matches ? 'text' : 'stack';
    window.addEventListener('popstate', () => this.enter());
  }

  /** Shows what the address names. */
  enter(): void {
    if (nav.screen.name !== 'lab') return;
    const route = parseRoute(new URL(location.href));
    if (route.view) this.view = route.view;
    if (route.chart) charts.shown = route.chart;
    if (route.run !== this.id) this.open(route.run);
    this.selected = route.step;
    this.reveal = route.step !== null;
    this.soon();
  }

  /** The whole text of a phase so far; not reactive: read it when `facts` changes. */
  text(phase: 'thinking' | 'answer'): string {
    return this.run?.text[phase] ?? '';
  }

  /** The run as it is now; not reactive. */
  recorded(): RunState | null {
    return this.run;
  }

  step(index: number | null): Step | null {
    return index === null ? null : (this.run?.steps[index] ?? null);
  }

  /** Whether the server has the run: not one that only `append` gave; not reactive. */
  get kept(): boolean {
    return this.leave !== null;
  }

  /** The last step number; -1 before the first. */
  get last(): number {
    return (this.run?.steps.length ?? 0) - 1;
  }

  // -- acts ---------------------------------------------------------------------------------------------

  /** Starts the run of the form; waits for its model if that is still on its way. False if the form has faults. */
  async generate(): Promise<boolean> {
    if (this.pending === 'sending' || this.pending === 'waiting') return true;
    const body = form.body();
    if (!body) return false;
    const model = shelf.find(form.draft.model);
    if (model?.status === 'available') void shelf.load(model.name);
    if (model?.status === 'loading' || model?.status === 'available') {
      this.pending = 'waiting';
      return true;
    }
    this.pending = 'sending';
    try {
      const { id } = await post<Created>('/api/runs', body);
      this.pending = 'nothing';
      this.open(id);
      this.settled = true; // it begins now
      history.pushState(null, '', hrefOf({ run: id, step: null, view: this.view }));
      follow.start();
    } catch (error) {
      this.pending = 'nothing';
      form.refuse(error instanceof Problem ? error : new Problem(0, String(error), null));
      void shelf.refresh();
    }
    return true;
  }

  /** A model has become ready or failed: does what was waiting for it. */
  modelChanged(): void {
    if (this.pending !== 'waiting') return;
    const model = shelf.find(form.draft.model);
    if (model?.status !== 'ready' && model?.status !== 'failed') return;
    this.pending = 'nothing';
    if (model.status === 'ready') void this.generate();
    else form.refuse(new Problem(503, model.error ?? `${model.name} could not be loaded`, null));
  }

  /** Asks the server to pause, step, resume or end the run; the page changes when its events say so. */
  async ask(what: Ask): Promise<void> {
    this.refused = null;
    if (what === 'cancel' && this.pending === 'waiting') this.pending = 'nothing';
    else if (this.run && !this.example && !isOver(this.run.status)) {
      this.pending = what;
      try {
        const { status } = await post<Standing>(`/api/runs/${encodeURIComponent(this.run.id)}/${what}`);
        if (this.pending === what && fulfilled(what, status)) this.pending = 'nothing';
      } catch (error) {
        if (this.pending === what) this.pending = 'nothing';
        this.refused = error instanceof Problem ? error.message : String(error);
      }
    }
  }

  /** Pauses a run that is under way, lets a paused one go on; false where there is none. */
  turn(): boolean {
    if (!this.facts || this.example || isOver(this.facts.status)) return false;
    void this.ask(this.facts.paused ? 'resume' : 'pause');
    return true;
  }

  /** Goes to a step of another run. */
  visit(run: string, step: number | null): void {
    history.pushState(null, '', hrefOf({ run, step, view: this.view }));
    this.enter();
  }

  select(step: number | null, reveal = false): void {
    this.selected = step;
    this.reveal = reveal && step !== null;
    if (step !== null) follow.end();
    this.soon();
  }

  show(view: View): void {
    this.view = view;
    localStorage.setItem(VIEW_KEY, view);
    if (follow.on) this.soon();
  }

  /** The address of what is shown. */
  href(): string {
    const chart = charts.shown === 'entropy' ? null : charts.shown;
    return hrefOf({ run: this.id, step: this.selected, view: this.view, chart });
  }

  /** Plays the recorded example, unless a run has come meanwhile. */
  async play(): Promise<void> {
    const [events = []] = await examples('lab');
    if (this.run) return;
    this.begin(EXAMPLE);
    this.id = null;
    this.example = true;
    this.leave = replay(events, (event) => {
      this.take(event);
      this.soon();
    });
  }

  /** Shows nothing but the form. */
  close(): void {
    this.open(null);
  }

  // -- events -------------------------------------------------------------------------------------------

  /** Takes events as the stream does, and draws them at once: what `window.__superpose.append` calls. */
  append(events: readonly RunEvent[]): void {
    if (!this.run) this.begin(events[0]?.run ?? 'appended');
    for (const event of events) this.take(event);
    this.draw(Infinity);
  }

  private open(id: string | null): void {
    this.leave?.();
    this.leave = null;
    this.refused = null;
    if (this.pending !== 'waiting') this.pending = 'nothing';
    follow.end();
    if (id === null) {
      this.run = this.facts = this.id = null;
      this.example = false;
      this.selected = this.hovered = null;
      this.connection = 'closed';
      this.picture.clear();
      return;
    }
    const run = this.begin(id);
    this.leave = watch([id], {
      event: (event) => {
        if (run.seq < 0) window.setTimeout(() => this.settle(run), SETTLE);
        this.take(event);
        this.soon();
      },
      connection: (state) => (this.connection = state),
    });
  }

  /** Replay is over: a run that still goes on is followed, a finished one stays where its reader begins. */
  private settle(run: RunState): void {
    if (this.run !== run) return;
    this.settled = true;
    if (follow.on) return;
    follow.fresh = 0;
    if (!isOver(run.status) && this.selected === null && window.scrollY === 0) follow.start();
  }

  private begin(id: string): RunState {
    this.picture.clear();
    this.selected = this.hovered = null;
    this.settled = false;
    this.id = id;
    this.example = false;
    this.run = newRun(id);
    this.facts = this.factsOf(this.run);
    return this.run;
  }

  private take(event: RunEvent): void {
    if (!this.run) return;
    apply(this.run, event);
    const held = event.type === 'run_paused' || event.type === 'step' ? this.run.paused?.held : null; // a step renews it
    if (held) this.heldUntil = this.settled ? performance.now() + 1000 * held : null;
    if (answers(event, this.pending)) this.pending = 'nothing';
  }

  private soon(): void {
    this.frames.soon();
  }

  private draw(budget: number): boolean {
    if (!this.run) return false;
    const before = this.picture.length;
    const more = this.picture.paint(this.run, budget);
    this.facts = this.factsOf(this.run);
    this.picture.select(this.selected);
    const grown = this.picture.length - before;
    if (this.reveal && this.selected !== null && this.picture.elements[this.selected]) {
      this.picture.elements[this.selected]?.scrollIntoView({ block: 'center', behavior: 'instant' });
      this.reveal = false;
    }
    if (grown || follow.on) follow.grown(isOver(this.run.status) && !follow.on ? 0 : grown);
    return more;
  }

  private factsOf(run: RunState): Facts {
    return this.glance.of(run, performance.now(), form.find(run.spec?.strategy.name)?.thinks);
  }
}

export const lab = new Lab();
