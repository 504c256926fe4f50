/** What stands for a step where it is read as text. */

import type { Step } from './events.ts';
import { isMarker, isPiece } from './glyphs.ts';

/** What is written for a step: its readable text, or the name of a control token or of a part of a character. */
export function shownText(step: Step): string {
  return step.text || step.token.text || '∅';
}

/** Whether a step is a marker or control token, which is drawn as an outlined chip. */
export function isChip(step: Step): boolean {
  return isMarker(step.token.text) || (step.text === '' && !isPiece(step.token.text));
}

/** Whether a step is the beginning of a character that a later step completes. */
export function isOpenPiece(step: Step): boolean {
  return step.text === '' && isPiece(step.token.text);
}

/** Whether a step is line breaks and nothing else, of which several in a row of steps share a line. */
export function isBreak(step: Step): boolean {
  const text = shownText(step);
  return text.endsWith('\n') && text.trim() === '';
}

/** Whether a row or paragraph ends after this step. */
export function endsLine(step: Step): 'line' | 'paragraph' | null {
  const text = shownText(step);
  return text.endsWith('\n\n') ? 'paragraph' : text.endsWith('\n') ? 'line' : null;
}
