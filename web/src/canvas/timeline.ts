/** Entropy over the steps, on one canvas: blue where mixtures were fed, orange where tokens were drawn. */

import type { Kind, Step } from '../core/events.ts';
import { Series, span } from '../core/series.ts';
import type { Follower } from './picture.ts';

const TOP = 14;
const BOTTOM = 14;
const LEFT = 30;
const RIGHT = 10;

interface Inks {
  ink: string;
  mut: string;
  line: string;
  mixture: string;
  sampled: string;
  band: string;
  font: string;
}

export class Timeline implements Follower {
  private over = false;
  private selected: number | null = null;
  private hovered: number | null = null;
  private frame = 0;
  private inks: Inks | null = null;
  private data = new Series();

  constructor(private readonly canvas: HTMLCanvasElement) {}

  append(steps: readonly Step[]): void {
    for (const { entropy, kind } of steps) this.data.push(entropy, kind);
    this.soon();
  }

  clear(): void {
    this.data = new Series();
    this.over = false;
    this.selected = this.hovered = null;
    this.soon();
  }

  /** Ends the axis at the last step. */
  finish(over: boolean): void {
    if (over === this.over) return;
    this.over = over;
    this.soon();
  }

  cursor(selected: number | null, hovered: number | null): void {
    [this.selected, this.hovered] = [selected, hovered];
    this.soon();
  }

  /** Reads the colours anew. */
  theme(): void {
    this.inks = null;
    this.soon();
  }

  resized(): void {
    this.soon();
  }

  /** The step at a horizontal place, in px from the canvas' left edge; null where there is none. */
  stepAt(x: number): number | null {
    if (this.data.length === 0) return null;
    const step = Math.floor((x - LEFT) / this.pitch());
    return step >= 0 && step < this.data.length ? step : step === this.data.length ? step - 1 : null;
  }

  private pitch(): number {
    return Math.max(1, this.canvas.clientWidth - LEFT - RIGHT) / span(this.data.length, this.over);
  }

  private soon(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const pen = this.canvas.getContext('2d');
    if (!pen || width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.inks ??= readInks(this.canvas);
    const { mut, line, band, font } = this.inks;
    const ceiling = niceCeiling(this.data.max);
    const floor = height - BOTTOM;
    const pitch = this.pitch();
    const x = (step: number): number => LEFT + (step + 0.5) * pitch;
    const y = (value: number): number => floor - (value / ceiling) * (floor - TOP);

    for (const { kind, from, to } of this.data.runs) {
      if (kind !== 'mixture') continue;
      pen.fillStyle = band;
      pen.fillRect(LEFT + from * pitch, TOP - 4, (to - from) * pitch, floor - TOP + 4);
    }
    pen.strokeStyle = line;
    pen.lineWidth = 1;
    for (const value of [0, ceiling / 2, ceiling]) this.rule(pen, LEFT, width - RIGHT, Math.round(y(value)) + 0.5);
    pen.fillStyle = mut;
    pen.font = font;
    pen.textBaseline = 'middle';
    pen.textAlign = 'right';
    for (const value of [0, ceiling]) pen.fillText(String(value), LEFT - 6, y(value));
    for (const { kind, from, to } of this.data.runs) this.curve(pen, kind, from, to, x, y, width);
    this.axis(pen, x, floor, width);
    this.mark(pen, this.hovered, x, y, floor, false);
    this.mark(pen, this.selected, x, y, floor, true);
  }

  private rule(pen: CanvasRenderingContext2D, from: number, to: number, at: number): void {
    pen.beginPath();
    pen.moveTo(from, at);
    pen.lineTo(to, at);
    pen.stroke();
  }

  private curve(
    pen: CanvasRenderingContext2D, kind: Kind, from: number, to: number,
    x: (step: number) => number, y: (value: number) => number, width: number,
  ): void {
    if (!this.inks) return;
    pen.strokeStyle = kind === 'mixture' ? this.inks.mixture : kind === 'sampled' ? this.inks.sampled : this.inks.mut;
    pen.lineWidth = kind === 'injected' ? 1 : 1.75;
    pen.lineJoin = 'round';
    pen.setLineDash(kind === 'injected' ? [2, 2] : []);
    pen.beginPath();
    const start = kind === 'injected' ? Math.max(0, from - 1) : from; // forced steps join their neighbours
    const joins = kind === 'injected' || this.data.kind(to) !== 'injected'; // and so do switches of the kind
    const end = joins ? Math.min(this.data.length, to + 1) : to;
    const points = this.data.shape(start, end, Math.ceil((width * (end - start)) / span(this.data.length, this.over)));
    points.forEach(({ index, value }, i) => (i ? pen.lineTo(x(index), y(value)) : pen.moveTo(x(index), y(value))));
    if (points.length === 1 && points[0]) pen.lineTo(x(points[0].index) + 1.5, y(points[0].value));
    pen.stroke();
    pen.setLineDash([]);
  }

  private axis(pen: CanvasRenderingContext2D, x: (step: number) => number, floor: number, width: number): void {
    if (!this.inks) return;
    pen.fillStyle = this.inks.mut;
    pen.textAlign = 'center';
    const every = niceStep(span(this.data.length, this.over), (width - LEFT - RIGHT) / 64);
    for (let step = 0; step < span(this.data.length, this.over); step += every) {
      pen.fillText(String(step), x(step), floor + 8);
    }
  }

  private mark(
    pen: CanvasRenderingContext2D, step: number | null,
    x: (step: number) => number, y: (value: number) => number, floor: number, selected: boolean,
  ): void {
    if (step === null || step >= this.data.length || !this.inks) return;
    const kind = this.data.kind(step);
    pen.strokeStyle = pen.fillStyle =
      kind === 'mixture' ? this.inks.mixture : kind === 'sampled' ? this.inks.sampled : this.inks.ink;
    pen.lineWidth = selected ? 1.5 : 1;
    pen.setLineDash(selected ? [] : [3, 3]);
    pen.beginPath();
    pen.moveTo(x(step), TOP - 6);
    pen.lineTo(x(step), floor);
    pen.stroke();
    pen.setLineDash([]);
    pen.beginPath();
    pen.arc(x(step), y(this.data.at(step)), selected ? 4 : 3, 0, 2 * Math.PI);
    pen.fill();
  }
}

function readInks(canvas: HTMLCanvasElement): Inks {
  const style = getComputedStyle(canvas);
  const read = (name: string): string => style.getPropertyValue(name).trim();
  return {
    ink: read('--ink'),
    mut: read('--mut'),
    line: read('--line'),
    mixture: read('--s1'),
    sampled: read('--s2'),
    band: read('--band'),
    font: `11px ${style.fontFamily}`,
  };
}

/** A round number at or above the largest value, at least half a nat. */
function niceCeiling(value: number): number {
  return [0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12].find((nice) => nice >= value) ?? Math.ceil(value);
}

/** Steps between two labels, so that about `most` of them fit. */
function niceStep(length: number, most: number): number {
  const least = length / Math.max(1, most);
  for (let power = 1; ; power *= 10) {
    for (const nice of [1, 2, 5]) if (nice * power >= least) return nice * power;
  }
}
