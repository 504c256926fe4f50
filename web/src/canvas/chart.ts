/** What every chart over the steps has in common: its canvas, its axis, its zoom and its cursor. */

import { type Range, whole } from '../core/axis.ts';
import type { Kind } from '../core/events.ts';
import { coloursAt } from './colours.ts';

export const TOP = 14;
export const BOTTOM = 14;
export const RIGHT = 10;

export interface Inks {
  ink: string;
  mut: string;
  line: string;
  acc: string;
  mixture: string;
  sampled: string;
  band: string;
  font: string;
  mono: string;
}

export abstract class Chart {
  protected over = false;
  protected selected: number | null = null;
  protected hovered: number | null = null;
  private zoom: Range | null = null;
  private dragged: [number, number] | null = null;
  private frame = 0;
  private inks: Inks | null = null;

  constructor(
    protected readonly canvas: HTMLCanvasElement,
    protected readonly left: number,
  ) {}

  protected abstract reset(): void;
  protected abstract get length(): number;
  protected abstract kind(step: number): Kind | null;
  /** Draws all but the axis and the cursor. */
  protected abstract paint(pen: CanvasRenderingContext2D, inks: Inks): void;

  clear(): void {
    this.reset();
    this.over = false;
    this.selected = this.hovered = this.zoom = this.dragged = null;
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

  /** Shows these steps alone; null is all. */
  zoomTo(range: Range | null): void {
    this.zoom = range;
    this.soon();
  }

  /** Marks the steps from one to another, which a drag will zoom to. */
  mark(dragged: [number, number] | null): void {
    this.dragged = dragged;
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
    if (this.length === 0) return null;
    const { from, to } = this.shown;
    const step = from + Math.floor((x - this.left) / this.pitch);
    if (step < from || step >= to) return step === to && to <= this.length ? to - 1 : null;
    return step < this.length ? step : step === this.length ? step - 1 : null;
  }

  protected get shown(): Range {
    return this.zoom ?? whole(this.length, this.over);
  }

  protected get width(): number {
    return Math.max(1, this.canvas.clientWidth - this.left - RIGHT);
  }

  protected get floor(): number {
    return this.canvas.clientHeight - BOTTOM;
  }

  /** Width of a step. */
  protected get pitch(): number {
    return this.width / (this.shown.to - this.shown.from);
  }

  /** The middle of a step. */
  protected x(step: number): number {
    return this.left + (step - this.shown.from + 0.5) * this.pitch;
  }

  protected inkOf(kind: Kind | null, { mixture, sampled, ink }: Inks): string {
    return kind === 'mixture' ? mixture : kind === 'sampled' ? sampled : ink;
  }

  protected soon(): void {
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
    this.paint(pen, this.inks);
    this.axis(pen, this.inks);
    this.line(pen, this.hovered, false, this.inks);
    this.line(pen, this.selected, true, this.inks);
    this.drag(pen, this.inks);
  }

  private axis(pen: CanvasRenderingContext2D, { mut, font }: Inks): void {
    pen.fillStyle = mut;
    pen.font = font;
    pen.textBaseline = 'middle';
    pen.textAlign = 'center';
    const { from, to } = this.shown;
    const every = niceStep(to - from, this.width / 64);
    for (let step = Math.ceil(from / every) * every; step < to; step += every) {
      pen.fillText(String(step), this.x(step), this.floor + 8);
    }
  }

  private line(pen: CanvasRenderingContext2D, step: number | null, selected: boolean, inks: Inks): void {
    const { from, to } = this.shown;
    if (step === null || step < from || step >= Math.min(to, this.length)) return;
    pen.strokeStyle = pen.fillStyle = this.inkOf(this.kind(step), inks);
    pen.lineWidth = selected ? 1.5 : 1;
    pen.setLineDash(selected ? [] : [3, 3]);
    pen.beginPath();
    pen.moveTo(this.x(step), TOP - 6);
    pen.lineTo(this.x(step), this.floor);
    pen.stroke();
    pen.setLineDash([]);
    this.point(pen, step, selected);
  }

  /** What the cursor adds at its step. */
  protected point(_pen: CanvasRenderingContext2D, _step: number, _selected: boolean): void {}

  private drag(pen: CanvasRenderingContext2D, { acc }: Inks): void {
    if (!this.dragged) return;
    const from = this.x(Math.min(...this.dragged)) - this.pitch / 2;
    const to = this.x(Math.max(...this.dragged)) + this.pitch / 2;
    pen.fillStyle = pen.strokeStyle = acc;
    pen.lineWidth = 1;
    pen.globalAlpha = 0.16;
    pen.fillRect(from, TOP - 6, to - from, this.floor - TOP + 6);
    pen.globalAlpha = 1;
    pen.strokeRect(from, TOP - 6, to - from, this.floor - TOP + 6);
  }
}

function readInks(canvas: HTMLCanvasElement): Inks {
  const { s1: mixture, s2: sampled, ...colours } = coloursAt(canvas, ['ink', 'mut', 'line', 'acc', 's1', 's2', 'band']);
  const style = getComputedStyle(canvas);
  const mono = style.getPropertyValue('--mono').trim();
  return { ...colours, mixture, sampled, font: `11px ${style.fontFamily}`, mono: `11px ${mono}` };
}

/** Steps between two labels, so that about `most` of them fit. */
function niceStep(length: number, most: number): number {
  const least = length / Math.max(1, most);
  for (let power = 1; ; power *= 10) {
    for (const nice of [1, 2, 5]) if (nice * power >= least) return nice * power;
  }
}
