/** The pointer on a chart: it points at steps, a click selects one, a drag spans those to zoom to. */

import type { Chart } from './chart.ts';

const DRAG = 5; // px until a press is a drag

/** What a chart's owner does then; `at` is where in the chart, null when the pointer has left. */
export interface Pointed {
  point(step: number | null, at: { x: number; y: number } | null): void;
  select(step: number): void;
  zoom(first: number, last: number): void;
}

/** Listens until the answer is called. */
export function listen(canvas: HTMLCanvasElement, chart: Chart, { point, select, zoom }: Pointed): () => void {
  let pressed: { x: number; step: number } | null = null;
  let dragged: [number, number] | null = null;
  const press = (event: PointerEvent): void => {
    const step = chart.stepAt(event.offsetX);
    if (event.button !== 0 || step === null) return;
    pressed = { x: event.offsetX, step };
    canvas.setPointerCapture(event.pointerId);
  };
  const move = ({ offsetX: x, offsetY: y, pointerType }: PointerEvent): void => {
    const step = chart.stepAt(x);
    if (pressed && (dragged || Math.abs(x - pressed.x) >= DRAG)) {
      if (step !== null) dragged = [pressed.step, step];
      chart.mark(dragged);
    }
    if (pointerType !== 'touch') point(step, { x, y });
  };
  const release = ({ type }: PointerEvent): void => {
    if (dragged) zoom(...dragged);
    else if (pressed && type === 'pointerup') select(pressed.step);
    pressed = dragged = null;
    chart.mark(null);
  };
  const ended = new AbortController();
  const { signal } = ended;
  canvas.addEventListener('pointerdown', press, { signal });
  canvas.addEventListener('pointermove', move, { signal });
  canvas.addEventListener('pointerup', release, { signal });
  canvas.addEventListener('pointercancel', release, { signal });
  canvas.addEventListener('pointerleave', () => point(null, null), { signal });
  return () => ended.abort();
}
