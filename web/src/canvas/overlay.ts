/** The entropy of several runs on one step axis: lines told apart by their dashes, marks where they part. */

import type { Kind, Step } from '../core/events.ts';
import { Series } from '../core/series.ts';
import { Chart, type Inks, RIGHT, TOP } from './chart.ts';
import type { Follower, Picture } from './picture.ts';

const LEFT = 34;
/** By pane; hue says what was fed, as everywhere. */
export const DASHES: readonly (readonly number[])[] = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

/** Where a run parts from the reference: ◆ its readout, ◇ what was fed. */
export interface Mark {
  step: number;
  sign: '◆' | '◇';
  pane: string; // its letter
}

export class Overlay extends Chart {
  private lines: Series[] = [];
  private marks: readonly Mark[] = [];
  private bold = 0;
  private unfollow: (() => void)[] = [];
  private ceiling = 0.5;

  constructor(canvas: HTMLCanvasElement) {
    super(canvas, LEFT);
  }

  /** Draws the lines of these pictures, and what comes to them. */
  follow(pictures: readonly Picture[]): void {
    this.leave();
    this.lines = pictures.map(() => new Series());
    this.unfollow = pictures.map((picture, line) => picture.follow(this.follower(line)));
    this.soon();
  }

  leave(): void {
    for (const end of this.unfollow) end();
  }

  /** `bold` is the line of the reference. */
  part(marks: readonly Mark[], bold: number): void {
    [this.marks, this.bold] = [marks, bold];
    this.soon();
  }

  protected reset(): void {
    this.lines = this.lines.map(() => new Series());
  }

  protected get length(): number {
    return Math.max(0, ...this.lines.map((line) => line.length));
  }

  protected kind(): Kind | null {
    return null; // several: the cursor is of no kind
  }

  private follower(line: number): Follower {
    return {
      append: (steps: readonly Step[]) => {
        for (const { entropy, kind } of steps) this.lines[line]?.push(entropy, kind);
        this.soon();
      },
      clear: () => {
        this.lines[line] = new Series();
        this.soon();
      },
    };
  }

  private y(value: number): number {
    return this.floor - (value / this.ceiling) * (this.floor - TOP);
  }

  protected paint(pen: CanvasRenderingContext2D, inks: Inks): void {
    const { from, to } = this.shown;
    const most = Math.max(0.5, ...this.lines.map((line) => line.most(from, Math.min(to, line.length))));
    this.ceiling = Math.ceil(most * 2) / 2;
    pen.strokeStyle = inks.line;
    pen.fillStyle = inks.mut;
    pen.font = inks.font;
    pen.textBaseline = 'middle';
    pen.textAlign = 'right';
    pen.lineWidth = 1;
    for (const value of [0, this.ceiling]) {
      const at = Math.round(this.y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(LEFT, at);
      pen.lineTo(LEFT + this.width + RIGHT, at);
      pen.stroke();
      pen.fillText(String(value), LEFT - 6, this.y(value));
    }
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width, this.floor + 2);
    pen.clip();
    this.lines.forEach((line, i) => {
      for (const run of line.runs) this.curve(pen, line, run, DASHES[i] ?? [], i === this.bold ? 2 : 1.4, inks);
    });
    pen.restore();
    this.parting(pen, inks);
  }

  private curve(
    pen: CanvasRenderingContext2D,
    line: Series,
    { kind, from, to }: { kind: Kind; from: number; to: number },
    dash: readonly number[],
    width: number,
    inks: Inks,
  ): void {
    const { shown } = this;
    const start = Math.max(from, shown.from - 1);
    const end = Math.min(to + 1, shown.to + 1, line.length); // joined to what follows
    if (start >= end) return;
    pen.strokeStyle = kind === 'injected' ? inks.mut : this.inkOf(kind, inks);
    pen.lineWidth = width;
    pen.lineJoin = 'round';
    pen.setLineDash([...dash]);
    pen.beginPath();
    const points = line.shape(start, end, Math.ceil((end - start) * this.pitch));
    points.forEach(({ index, value }, i) => {
      if (i) pen.lineTo(this.x(index), this.y(value));
      else pen.moveTo(this.x(index), this.y(value));
    });
    if (points.length === 1 && points[0]) pen.lineTo(this.x(points[0].index) + 1.5, this.y(points[0].value));
    pen.stroke();
    pen.setLineDash([]);
  }

  /** The marks over the lines; those of one step side by side. */
  private parting(pen: CanvasRenderingContext2D, { ink, font }: Inks): void {
    const { from, to } = this.shown;
    pen.font = font;
    pen.textAlign = 'left';
    pen.textBaseline = 'middle';
    pen.fillStyle = pen.strokeStyle = ink;
    pen.lineWidth = 1;
    let free = -Infinity;
    for (const { step, sign, pane } of [...this.marks].sort((a, b) => a.step - b.step)) {
      if (step < from || step >= to) continue;
      const x = this.x(step);
      pen.globalAlpha = 0.35;
      pen.beginPath();
      pen.moveTo(Math.round(x) + 0.5, TOP);
      pen.lineTo(Math.round(x) + 0.5, this.floor);
      pen.stroke();
      pen.globalAlpha = 1;
      const text = `${sign}${pane}`;
      const at = Math.max(free, x - 4);
      pen.fillText(text, at, TOP / 2);
      free = at + pen.measureText(text).width + 5;
    }
  }

  protected override point(pen: CanvasRenderingContext2D, step: number, selected: boolean): void {
    for (const line of this.lines) {
      if (step >= line.length) continue;
      pen.beginPath();
      pen.arc(this.x(step), this.y(line.at(step)), selected ? 3.5 : 2.5, 0, 2 * Math.PI);
      pen.fill();
    }
  }
}
