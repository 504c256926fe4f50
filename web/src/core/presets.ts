/** Prompts to begin with, and the reader's own: what is put on the form. */

import { type Draft, parseDraft } from './draft.ts';

export interface Preset {
  name: string;
  about: string;
  system: string;
  user: string;
  values?: Record<string, string>; // general fields, as typed
}

/** What a new visitor finds on the form. */
export const FIRST = 'What is 25 + 17? Explain briefly.';

export const PRESETS: readonly Preset[] = [
  {
    name: 'Maths assistant',
    about: 'a problem to think about first',
    system: 'You are a careful mathematician. Think step by step, check each step, and state the final answer clearly.',
    user: 'A rectangle is three times as long as it is wide. Its perimeter is 48 cm. What is its area?',
    values: { T_e: '100', T_total: '400' },
  },
  {
    name: 'Word problem',
    about: 'like those of GSM8K',
    system: '',
    user:
      'Mira bakes 4 trays of 18 rolls. She keeps 9 rolls and packs the others into bags of 7. ' +
      'How many bags does she fill? End with "The answer is" and the number.',
    values: { T_e: '100', T_total: '400' },
  },
  {
    name: 'Which is larger?',
    about: 'a short question that models get wrong',
    system: '',
    user: 'Which is larger, 9.11 or 9.9? Give a reason.',
  },
  {
    name: 'Code',
    about: 'a function with a trap',
    system: 'You are an experienced programmer. Answer with code and one sentence.',
    user: 'Write a Python function that returns the second largest number of a list, where equal numbers count once.',
    values: { T_total: '400' },
  },
  {
    name: 'Translation',
    about: 'a sentence with two readings',
    system: 'You are a translator.',
    user: 'Translate into French: "The bank was steep, so we left our bags and climbed it in the rain."',
  },
  {
    name: 'Creative',
    about: 'many good continuations',
    system: 'You are a poet who likes plain words.',
    user: 'Write a poem of four lines about a lighthouse that nobody needs any more.',
    values: { temperature: '1' },
  },
];

/** The form with a preset's prompts, at its fields and their defaults otherwise; strategy and model stay. */
export function withPreset(draft: Draft, { system, user, values = {} }: Preset): Draft {
  const touched = new Set(PRESETS.flatMap((preset) => Object.keys(preset.values ?? {})));
  const kept = Object.fromEntries(Object.entries(draft.values).filter(([path]) => !touched.has(path)));
  return { ...draft, system, user, values: { ...kept, ...values } };
}

/** A form that its reader saved under a name. */
export interface Saved {
  name: string;
  draft: Draft;
}

export const MOST_SAVED = 200;
export const LONGEST_NAME = 60;

/** What an earlier visit saved; whatever is broken in it or not ours is left out. */
export function parseSaved(text: string | null): Saved[] {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '[]');
  } catch {
    return [];
  }
  const found = new Map<string, Saved>();
  for (const each of Array.isArray(value) ? (value as unknown[]) : []) {
    const { name, draft } = (each ?? {}) as Record<string, unknown>;
    const read = typeof draft === 'object' && draft !== null ? parseDraft(JSON.stringify(draft)) : null;
    const short = typeof name === 'string' ? name.trim().slice(0, LONGEST_NAME) : '';
    if (read && short) found.set(short, { name: short, draft: read });
  }
  return [...found.values()].slice(0, MOST_SAVED);
}

/** The saved ones with one more, in place of one of the same name; by name. */
export function withSaved(saved: readonly Saved[], one: Saved): Saved[] {
  const others = saved.filter(({ name }) => name !== one.name);
  return [...others, one].sort((a, b) => a.name.localeCompare(b.name, 'en'));
}
