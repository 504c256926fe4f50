/** The files of recorded runs, each fetched once, when it is first shown. */

import type { RunEvent } from '../core/events.ts';
import { type Examples, unpack } from '../core/example.ts';
import lab from '../examples/lab.json?url';
import strategies from '../examples/strategies.json?url';
import { get } from './api.ts';

const FILES = { lab, strategies };
const asked = new Map<keyof typeof FILES, Promise<RunEvent[][]>>();

/** The event logs of a file. Raises Problem; the next call tries again. */
export function examples(which: keyof typeof FILES): Promise<RunEvent[][]> {
  const known = asked.get(which);
  if (known) return known;
  const wanted = get<Examples>(FILES[which]).then(unpack);
  asked.set(which, wanted);
  wanted.catch(() => asked.delete(which));
  return wanted;
}
