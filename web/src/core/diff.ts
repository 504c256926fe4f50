/** What differs between two texts, word by word (Myers 1986, at most so many edits). */

export interface Piece {
  kind: 'same' | 'added' | 'removed';
  text: string;
}

const MOST_EDITS = 800; // work and memory grow with its square

/** Words with the white space after them: joined they are the text again. */
export function words(text: string): string[] {
  return text.match(/^\s+|\S+\s*/g) ?? [];
}

/**
 * How `before` becomes `after`. White space alone makes no difference; what is the same is written as in `after`.
 * Texts with too many edits between them are one removal and one addition, apart from what they begin and end with.
 */
export function diff(before: string, after: string): Piece[] {
  const [a, b] = [words(before), words(after)];
  const [keysA, keysB] = [a.map((word) => word.trimEnd()), b.map((word) => word.trimEnd())];
  let start = 0;
  while (start < a.length && start < b.length && keysA[start] === keysB[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && keysA[a.length - 1 - end] === keysB[b.length - 1 - end]) end += 1;
  const pieces: Piece[] = [];
  add(pieces, 'same', b.slice(0, start));
  const innerA = keysA.slice(start, a.length - end);
  const innerB = keysB.slice(start, b.length - end);
  let [i, j] = [start, start];
  const pairs = matches(innerA, innerB) ?? [];
  for (const [x, y] of [...pairs, [innerA.length, innerB.length] as const]) {
    add(pieces, 'removed', a.slice(i, start + x));
    add(pieces, 'added', b.slice(j, start + y));
    if (start + y < b.length - end) add(pieces, 'same', [b[start + y] ?? '']);
    [i, j] = [start + x + 1, start + y + 1];
  }
  add(pieces, 'same', b.slice(b.length - end));
  return pieces;
}

/** How many words were added and removed. */
export function changed(pieces: readonly Piece[]): { added: number; removed: number } {
  const count = (wanted: Piece['kind']): number =>
    pieces.reduce((sum, { kind, text }) => sum + (kind === wanted ? (text.match(/\S+/g)?.length ?? 0) : 0), 0);
  return { added: count('added'), removed: count('removed') };
}

function add(pieces: Piece[], kind: Piece['kind'], some: readonly string[]): void {
  if (!some.length) return;
  const last = pieces.at(-1);
  if (last?.kind === kind) last.text += some.join('');
  else pieces.push({ kind, text: some.join('') });
}

/** The pairs [i, j] of a longest common subsequence; null where more than MOST_EDITS edits lie between. */
function matches(a: readonly string[], b: readonly string[]): [number, number][] | null {
  const trace: Int32Array[] = [];
  const most = Math.min(MOST_EDITS, a.length + b.length);
  let row = new Int32Array(2 * most + 3); // furthest x of diagonal k at [k + most + 1]
  for (let edits = 0; edits <= most; edits++) {
    const next = row.slice();
    for (let k = -edits; k <= edits; k += 2) {
      const at = k + most + 1;
      const down = k === -edits || (k !== edits && (row[at - 1] ?? 0) < (row[at + 1] ?? 0));
      let x = down ? (row[at + 1] ?? 0) : (row[at - 1] ?? 0) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      next[at] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a.length, b.length, trace, edits);
    }
    trace.push(next.slice(most + 1 - edits, most + 2 + edits));
    row = next;
  }
  return null;
}

/** `trace[d]` holds the furthest x of diagonals -d … d after d edits. */
function walkBack(x: number, y: number, trace: readonly Int32Array[], edits: number): [number, number][] {
  const pairs: [number, number][] = [];
  for (let d = edits; d > 0; d--) {
    const k = x - y;
    const row = trace[d - 1] ?? new Int32Array();
    const furthest = (diagonal: number): number => row[diagonal + d - 1] ?? 0;
    const down = k === -d || (k !== d && furthest(k - 1) < furthest(k + 1));
    const from = down ? k + 1 : k - 1;
    const fromX = furthest(from);
    const fromY = fromX - from;
    while (x > fromX + Number(!down) && y > fromY + Number(down)) pairs.push([--x, --y]);
    [x, y] = [fromX, fromY];
  }
  while (x > 0 && y > 0) pairs.push([--x, --y]);
  return pairs.reverse();
}
