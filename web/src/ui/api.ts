/** Calls to the server; a refusal becomes a Problem: one sentence and the field it is about. */

export class Problem extends Error {
  constructor(
    readonly status: number, // 0 = no answer at all
    message: string,
    readonly field: string | null,
  ) {
    super(message);
  }
}

const BROKEN = 'the file broke off on its way; try again';

interface ProblemDocument {
  title?: string;
  detail?: string;
  field?: string | null;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return json<T>(await call('GET', path, null, signal));
}

export async function post<T>(path: string, body: unknown = {}, signal?: AbortSignal): Promise<T> {
  return json<T>(await call('POST', path, JSON.stringify(body), signal));
}

export async function patch<T>(path: string, body: unknown): Promise<T> {
  return json<T>(await call('PATCH', path, JSON.stringify(body)));
}

/** Sends a file as it is. */
export async function upload<T>(path: string, file: Blob): Promise<T> {
  return json<T>(await call('POST', path, file));
}

/** Saves what the server gives under the name that it gives it. */
export async function download(path: string): Promise<void> {
  const response = await call('GET', path, null);
  const file = await response.blob().catch(() => {
    throw new Problem(0, BROKEN, null);
  });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1] ?? 'superpose';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
}

/** The lines of a file of the server, as they come. */
export async function* lines(path: string): AsyncGenerator<string> {
  const reader = (await call('GET', path, null)).body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      const whole = (rest + part.value).split('\n');
      rest = whole.pop() ?? '';
      yield* whole;
    }
  } catch {
    throw new Problem(0, BROKEN, null);
  }
  if (rest) yield rest;
}

async function json<T>(response: Response): Promise<T> {
  return (response.status === 204 ? null : await response.json()) as T;
}

async function call(method: string, path: string, body: string | Blob | null, signal?: AbortSignal): Promise<Response> {
  const type = body instanceof Blob ? 'application/octet-stream' : 'application/json';
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      ...(body === null ? {} : { body, headers: { 'content-type': type } }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, 'the server does not answer; is it still running?', null);
  }
  if (response.ok) return response;
  const said: ProblemDocument = await response.json().catch(() => ({}));
  throw new Problem(response.status, said.detail ?? said.title ?? `the server answered ${response.status}`, said.field ?? null);
}

/** The sentence of whatever went wrong. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
