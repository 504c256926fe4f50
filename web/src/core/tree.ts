/** The family of a run: runs that were branched from one another, as the rows of a tree. */

import type { Relative } from './events.ts';
import { glyphs } from './glyphs.ts';

export interface Branch {
  run: Relative;
  level: number; // 1 = a root
  position: number; // among its siblings, from 1
  siblings: number;
  last: boolean[]; // for each level above it and its own: whether nothing follows there
}

/** Parents before their children, siblings by the step where they branched, then by age. */
export function branches(family: readonly Relative[]): Branch[] {
  const known = new Set(family.map(({ id }) => id));
  const children = new Map<string | null, Relative[]>();
  for (const run of family) {
    const parent = run.parent !== null && known.has(run.parent) ? run.parent : null; // a deleted parent leaves roots
    children.set(parent, [...(children.get(parent) ?? []), run]);
  }
  const rows: Branch[] = [];
  const grow = (parent: string | null, above: boolean[]): void => {
    const found = [...(children.get(parent) ?? [])];
    found.sort((a, b) => (a.step ?? 0) - (b.step ?? 0) || a.created_at.localeCompare(b.created_at));
    found.forEach((run, index) => {
      const last = [...above, index === found.length - 1];
      rows.push({ run, level: last.length, position: index + 1, siblings: found.length, last });
      grow(run.id, last);
    });
  };
  grow(null, []);
  return rows;
}

/** The first step at which two runs of a family may differ; null where the tree does not say. */
export function parting(family: readonly Relative[], a: string, b: string): number | null {
  const lineOf = (id: string): { id: string; upto: number }[] => {
    const line: { id: string; upto: number }[] = [];
    let at: string | null = id;
    let upto = Infinity;
    while (at !== null) {
      line.push({ id: at, upto });
      const run = family.find((each) => each.id === at);
      upto = Math.min(upto, run?.step ?? 0);
      at = run?.parent ?? null;
    }
    return line;
  };
  const other = lineOf(b);
  for (const { id, upto } of lineOf(a)) {
    const shared = other.find((each) => each.id === id);
    if (shared) return Math.min(upto, shared.upto);
  }
  return null;
}

/** "@14 forced ␣think": where a run was branched off and with what. */
export function branchWords({ step, edit }: Relative): string {
  if (step === null) return '';
  const words = edit?.replace(/`(.*)`/s, (_, token: string) => glyphs(token)); // the server has the token in backticks
  return words ? `@${step} ${words}` : `@${step}`;
}
