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

interface ProblemDocument {
  title?: string;
  detail?: string;
  field?: string | null;
}

export interface RunSummary {
  id: string;
  created_at: string;
  status: string;
  name: string | null;
  strategy: string;
  user: string; // its beginning
  steps: number;
  answer: string;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return call<T>('GET', path, undefined, signal);
}

export async function post<T>(path: string, body: unknown = {}, signal?: AbortSignal): Promise<T> {
  return call<T>('POST', path, body, signal);
}

async function call<T>(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, 'the server does not answer; is it still running?', null);
  }
  if (response.ok) return (await response.json()) as T;
  const said: ProblemDocument = await response.json().catch(() => ({}));
  throw new Problem(response.status, said.detail ?? said.title ?? `the server answered ${response.status}`, said.field ?? null);
}
