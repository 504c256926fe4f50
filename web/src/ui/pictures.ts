/** Runs of the server as a picture, drawn as the Lab draws now. */

import { HIGHEST, savePng, saveSvg } from '../canvas/export.ts';
import type { RunEvent } from '../core/events.ts';
import { plural } from '../core/format.ts';
import { apply, newRun, type RunState } from '../core/reducer.ts';
import { exportPath, type RunRow } from '../core/runs.ts';
import type { Named } from '../core/sheet.ts';
import type { Style } from '../core/sheetItems.ts';
import { lines } from './api.ts';
import { lab } from './lab.svelte.ts';
import { settings } from './settings.svelte.ts';
import { tints } from './tints.svelte.ts';

export type Form = 'svg' | 'png';

function styleNow(): Style {
  return { tint: tints.metric, view: lab.view, glyphs: settings.glyphs };
}

/** Saves one picture; answered with what it leaves out. */
export async function savePicture(runs: readonly Named[], form: Form): Promise<string | null> {
  if (form === 'svg') await saveSvg(runs, styleNow());
  const cut = form === 'png' ? await savePng(runs, styleNow()) : 0;
  if (cut === 0) return null;
  const whose = runs.length === 1 ? 'the last steps are' : `the last steps of ${plural(cut, 'run')} are`;
  return `A PNG holds ${HIGHEST} px of height: ${whose} left out, as it says; the SVG has all.`;
}

/** The runs with all their steps, one after the other; `at` is told how many came before the next. */
export async function readAll(rows: readonly RunRow[], at: (done: number) => void): Promise<Named[]> {
  const all: Named[] = [];
  for (const { id, name } of rows) {
    at(all.length);
    all.push({ run: await readRun(id), name });
  }
  return all;
}

async function readRun(id: string): Promise<RunState> {
  const run = newRun(id);
  for await (const line of lines(exportPath([id], 'jsonl'))) apply(run, JSON.parse(line) as RunEvent);
  return run;
}
