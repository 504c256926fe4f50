/** Texts and numbers as SVG, in the page's colours and fonts. */

import { visible } from './glyphs.ts';

/** The page's colours and fonts, and how wide its texts are. */
export interface Look {
  ink: string;
  mut: string;
  line: string;
  edge: string;
  bg: string;
  bad: string;
  mixture: string;
  sampled: string;
  weights: readonly string[]; // five, from the faint one on
  tints: readonly string[];
  mono: string;
  sans: string;
  measure(text: string, font: Font): number;
}

export type Font = keyof typeof FONTS;
export const FONTS = {
  rep: { size: 13, weight: 600, family: 'mono' },
  cell: { size: 10.5, weight: 400, family: 'mono' },
  small: { size: 11.5, weight: 400, family: 'sans' },
  head: { size: 14, weight: 600, family: 'sans' },
  text: { size: 16, weight: 400, family: 'sans' },
} as const;

export const n = (value: number): string => String(Number(value.toFixed(4)));

/** A text inside XML, whatever a model wrote. */
export function escaped(text: string): string {
  return text
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[\ufffe\uffff]/g, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** A text at a place; `width` holds it to that many px where the fonts are others. */
export function written(x: number, y: number, text: string, font: Font, colour: string, width: number | null = null): string {
  const exact = width === null ? '' : ` textLength="${n(width)}" lengthAdjust="spacingAndGlyphs"`;
  return `<text class="${font}" x="${n(x)}" y="${n(y)}" fill="${colour}"${exact}>${escaped(text)}</text>`;
}

/** As much of a text as has room, closed by … if that is not all. */
export function fit({ measure }: Look, text: string, width: number, font: Font): string {
  if (measure(text, font) <= width) return text;
  const characters = [...text];
  let [least, most] = [1, characters.length]; // the longest beginning lies in between
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (measure(`${characters.slice(0, middle).join('')}…`, font) <= width) least = middle;
    else most = middle - 1;
  }
  return `${characters.slice(0, least).join('')}…`;
}

/** A sentence in lines of at most so many characters, where its words allow. */
export function lines(text: string, most: number): string[] {
  const made: string[] = [];
  for (const word of visible(text).split(/[ \t\n]+/)) {
    const last = made.at(-1);
    if (last === undefined || last.length + word.length + 1 > most) made.push(word);
    else made[made.length - 1] = `${last} ${word}`;
  }
  return made;
}

/** A document of this size; `parts` are its elements. */
export function svgOf(width: number, height: number, parts: readonly string[], { bg, mono, sans }: Look): string {
  const fonts = Object.entries(FONTS).map(([name, { size, weight, family }]) => {
    return `.${name}{font:${weight} ${size}px ${family === 'mono' ? mono : sans}}`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<style>${escaped(`text{white-space:pre}${fonts.join('')}`)}</style>`,
    `<rect width="${width}" height="${height}" fill="${bg}"/>`,
    ...parts,
    '</svg>',
  ].join('\n');
}
