/** Settings in a link: the spec as JSON, deflated, in base64url, behind the number of this way of writing. */

import type { Said } from './copyas.ts';
import { type Draft, draftFrom } from './draft.ts';

const PREFIX = '#spec=';
const VERSION = '1';
const MOST = 1_000_000; // characters of JSON: more than any model reads

/** The fragment that holds a spec. A fork is left out: its parent is on one server only. */
export async function fragmentOf({ fork: _, ...settings }: Said): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(settings));
  const packed = await collect(new Blob([bytes]).stream().pipeThrough(new CompressionStream('deflate-raw')), MOST);
  const text = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(''));
  return `${PREFIX}${VERSION}.${text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`;
}

export function isShared(hash: string): boolean {
  return hash.startsWith(PREFIX);
}

/** The form that a fragment holds. Raises Error with one sentence for anything else. */
export async function draftOfFragment(hash: string): Promise<Draft> {
  const [version = '', packed = ''] = hash.slice(PREFIX.length).split('.', 2);
  if (version !== VERSION) throw new Error(`The link's settings are written in a way that this version cannot read: ${clip(version)}`);
  let value: unknown;
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
    const json = await collect(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')), MOST);
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch {
    throw new Error("The link's settings are damaged: a part of the link may be missing");
  }
  return draftFrom(value);
}

/** All bytes of a stream. Raises once there are more than `most`: a short link must not fill the memory. */
async function collect(stream: ReadableStream<Uint8Array>, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let size = 0;
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new Error('too long');
    }
    parts.push(value);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function clip(text: string): string {
  return JSON.stringify(text.length > 20 ? `${text.slice(0, 20)}…` : text);
}
