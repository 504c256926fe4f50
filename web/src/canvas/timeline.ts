/** One number over the steps, on one canvas: blue where mixtures were fed, orange where tokens were drawn. */

import type { Kind, Step } from '../core/events.ts';
import { type Metric, METRICS } from '../core/metrics.ts';
import { Series } from '../core/series.ts';
import { Chart, type Inks, RIGHT, TOP } from './chart.ts';

const LEFT = 34;

export class Timeline extends Chart {
  private data = new Series();
  private ceiling = 1;

  constructor(
    canvas: HTMLCanvasElement,
    private readonly metric: Metric = METRICS.entropy,
  ) {
    super(canvas, LEFT);
  }

  append(steps: readonly Step[]): void {
    for (const step of steps) this.data.push(this.metric.of(step), step.kind);
    this.soon();
  }

  protected reset(): void {
    this.data = new Series();
  }

  protected get length(): number {
    return this.data.length;
  }

  protected kind(step: number): Kind | null {
    return this.data.kind(step);
  }

  private y(value: number): number {
    return this.floor - (value / this.ceiling) * (this.floor - TOP);
  }

  protected paint(pen: CanvasRenderingContext2D, inks: Inks): void {
    const { from, to } = this.shown;
    this.ceiling = niceCeiling(this.data.most(from, Math.min(to, this.length)), this.metric.least);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width, this.floor + 2);
    pen.clip();
    const runs = this.data.runs.filter((run) => run.to >= from && run.from <= to);
    for (const run of runs) {
      if (run.kind !== 'mixture') continue;
      pen.fillStyle = inks.band;
      const [left, width] = [this.x(run.from - 0.5), (run.to - run.from) * this.pitch];
      pen.fillRect(left, TOP - 4, width, this.floor - TOP + 4);
      pen.fillStyle = inks.line; // seen where the band's tint is not, and no curve
      pen.fillRect(left, TOP - 5, width, 1.5);
    }
    pen.restore();
    this.scale(pen, inks);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width, this.floor + 2);
    pen.clip();
    for (const run of runs) this.curve(pen, run, inks);
    pen.restore();
  }

  private scale(pen: CanvasRenderingContext2D, { line, mut, font }: Inks): void {
    pen.strokeStyle = line;
    pen.lineWidth = 1;
    for (const value of [0, this.ceiling / 2, this.ceiling]) {
      const at = Math.round(this.y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(LEFT, at);
      pen.lineTo(LEFT + this.width + RIGHT, at);
      pen.stroke();
    }
    pen.fillStyle = mut;
    pen.font = font;
    pen.textBaseline = 'middle';
    pen.textAlign = 'right';
    for (const value of [0, this.ceiling]) pen.fillText(String(value), LEFT - 6, this.y(value));
  }

  private curve(
    pen: CanvasRenderingContext2D,
    { kind, from, to }: { kind: Kind; from: number; to: number },
    { mixture, sampled, mut }: Inks,
  ): void {
    const { shown } = this;
    pen.strokeStyle = kind === 'mixture' ? mixture : kind === 'sampled' ? sampled : mut;
    pen.lineWidth = kind === 'injected' ? 1 : 1.75;
    pen.lineJoin = 'round';
    pen.setLineDash(kind === 'injected' ? [2, 2] : []);
    pen.beginPath();
    const joins = kind === 'injected' || this.data.kind(to) !== 'injected'; // switches of the kind join
    const start = Math.max(kind === 'injected' ? from - 1 : from, shown.from - 1, 0); // forced steps join both neighbours
    const end = Math.min(joins ? to + 1 : to, shown.to + 1, this.length);
    let drawing = false;
    for (const { index, value } of this.data.shape(start, end, Math.ceil((end - start) * this.pitch))) {
      if (Number.isNaN(value)) drawing = false;
      else if (drawing) pen.lineTo(this.x(index), this.y(value));
      else {
        pen.moveTo(this.x(index), this.y(value));
        pen.lineTo(this.x(index) + 1, this.y(value)); // one alone is seen as well
        drawing = true;
      }
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  protected override point(pen: CanvasRenderingContext2D, step: number, selected: boolean): void {
    const value = this.data.at(step);
    if (Number.isNaN(value)) return;
    pen.beginPath();
    pen.arc(this.x(step), this.y(value), selected ? 4 : 3, 0, 2 * Math.PI);
    pen.fill();
  }
}

/** A round number at or above the largest value, and at least `least`. */
function niceCeiling(value: number, least: number): number {
  if (value <= least) return least;
  const power = 10 ** Math.floor(Math.log10(value));
  const nice = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= value * (1 - 1e-6)) ?? 10;
  return Number((nice * power).toPrecision(2));
}
