/** The picture of a run as a file: SVG, or PNG made from it. */

import type { Metric } from '../core/metrics.ts';
import type { RunState } from '../core/reducer.ts';
import { type Font, FONTS, type Look, sheet, WIDTH } from '../core/sheet.ts';

const SCALE = 2; // pixels of a PNG to one of the page
const HIGHEST = 8000; // px of a PNG before scaling: browsers end at 16384

export async function saveSvg(run: RunState, tint: Metric): Promise<void> {
  const { svg } = sheet(run, look(), tint);
  save(new Blob([svg], { type: 'image/svg+xml' }), `superpose-${run.id}.svg`);
}

export async function savePng(run: RunState, tint: Metric): Promise<void> {
  const { svg, height } = sheet(run, look(), tint, HIGHEST);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`; // the page's policy lets no blob be an image
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [WIDTH * SCALE, height * SCALE];
  canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, 'image/png'));
  if (!blob) throw new Error('The browser could not make a PNG of this size; the SVG has the whole picture.');
  save(blob, `superpose-${run.id}.png`);
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
  const measure = (text: string, font: Font): number => {
    const { size, weight, family } = FONTS[font];
    if (!pen) return text.length * size * 0.6;
    pen.font = `${weight} ${size}px ${families[family]}`;
    return pen.measureText(text).width;
  };
  return {
    ...families,
    ink: read('ink'), mut: read('mut'), line: read('line'), edge: read('edge'), bg: read('bg'),
    mixture: read('s1'), sampled: read('s2'),
    weights: [0, 1, 2, 3, 4].map((bin) => read(`b${bin}`)),
    tints: [0, 1, 2, 3, 4].map((bin) => read(`o${bin}`)),
    measure,
  };
}
