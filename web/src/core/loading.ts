/** How far the loading of a model is, in words. */

import type { Model } from './events.ts';

/** What every load goes through, in order. */
export const STAGES = ['files', 'weights', 'self-check', 'warm-up'] as const;

const WORDS: Record<string, string> = {
  waiting: 'waiting for another to load',
  files: 'fetching files',
  reading: 'reading the file',
  dequantising: 'unpacking weights',
  writing: 'keeping the unpacked weights',
  weights: 'reading weights',
  'self-check': 'checking itself',
  'warm-up': 'warming up',
};

/** "reading weights · 43 %". */
export function loadingWords({ stage, done, total }: Pick<Model, 'stage' | 'done' | 'total'>): string {
  const words = WORDS[stage ?? ''] ?? stage ?? 'loading';
  return total > 0 ? `${words} · ${Math.floor((100 * done) / total)} %` : words;
}

/** The place in STAGES of what a load does now; a .gguf file is unpacked before its weights are read. -1 before the first. */
export function stageOf(stage: string | null): number {
  if (stage === 'reading' || stage === 'dequantising' || stage === 'writing') return STAGES.indexOf('weights');
  return STAGES.findIndex((each) => each === stage);
}
