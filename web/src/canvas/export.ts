/** The pictures of runs as one file: SVG, or PNG made from it. */

import { album, shares } from '../core/album.ts';
import { type Font, FONTS, type Look } from '../core/ink.ts';
import { type Named, type Sheet, sheet, WIDTH } from '../core/sheet.ts';
import type { Style } from '../core/sheetItems.ts';

const SCALE = 2; // pixels of a PNG to one of the page
export const HIGHEST = 8000; // px of a PNG before scaling: browsers end at 16384
const SLICE = 30; // ms of drawing before the page may do something else

/** Saves all steps of these runs. */
export async function saveSvg(runs: readonly Named[], style: Style): Promise<void> {
  const colours = look();
  const drawn: Sheet[] = [];
  for (const run of runs) drawn.push(await slowly(sheet(run, colours, style)));
  const { svg } = album(drawn, colours);
  save(new Blob([svg], { type: 'image/svg+xml' }), nameOf(runs, 'svg'));
}

/** Saves as many steps as a PNG has room for; answered with the number of runs that were cut. */
export async function savePng(runs: readonly Named[], style: Style): Promise<number> {
  const colours = look();
  const drawn: Sheet[] = [];
  for (const run of runs) drawn.push(await slowly(sheet(run, colours, style, HIGHEST)));
  const heights = drawn.map(({ height }) => height);
  for (const [at, most] of shares(heights, HIGHEST).entries()) {
    const run = runs[at];
    if (run && most < (heights[at] ?? 0)) drawn[at] = await slowly(sheet(run, colours, style, most));
  }
  const { svg, height } = album(drawn, colours);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`; // the page's policy lets no blob be an image
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [WIDTH * SCALE, height * SCALE];
  canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, 'image/png'));
  if (!blob) throw new Error('The browser could not make a PNG of this size; the SVG has the whole picture.');
  save(blob, nameOf(runs, 'png'));
  return drawn.filter(({ cut }) => cut !== null).length;
}

/** The value of a long computation that makes pauses, which become pauses for the page. */
async function slowly<T>(work: Generator<void, T>): Promise<T> {
  for (let begun = performance.now(); ; ) {
    const { done, value } = work.next();
    if (done) return value;
    if (performance.now() - begun < SLICE) continue;
    await new Promise((on) => setTimeout(on));
    begun = performance.now();
  }
}

function nameOf(runs: readonly Named[], form: string): string {
  return runs.length === 1 ? `superpose-${runs[0]?.run.id}.${form}` : `superpose-${runs.length}-runs.${form}`;
}

function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The colours and fonts that the page has now. */
function look(): Look {
  const style = getComputedStyle(document.documentElement);
  const read = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const pen = document.createElement('canvas').getContext('2d');
  const families = { mono: read('mono'), sans: read('sans') };
  const known = new Map<string, number>(); // texts come again and again
  const measure = (text: string, font: Font): number => {
    const key = `${font} ${text}`;
    let wide = known.get(key);
    if (wide === undefined) {
      const { size, weight, family } = FONTS[font];
      if (pen) pen.font = `${weight} ${size}px ${families[family]}`;
      wide = pen ? pen.measureText(text).width : text.length * size * 0.6;
      known.set(key, wide);
    }
    return wide;
  };
  return {
    ...families,
    ink: read('ink'), mut: read('mut'), line: read('line'), edge: read('edge'), bg: read('bg'), bad: read('bad'),
    mixture: read('s1'), sampled: read('s2'),
    weights: [0, 1, 2, 3, 4].map((bin) => read(`b${bin}`)),
    tints: [0, 1, 2, 3, 4].map((bin) => read(`o${bin}`)),
    measure,
  };
}
