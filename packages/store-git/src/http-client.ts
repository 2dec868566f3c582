import type { GitHttpRequest, GitHttpResponse, HttpClient } from 'isomorphic-git';

/** How many times longer a server may think about what it was sent: it has to receive it, unpack it and run hooks. */
const PATIENCE_WITH_POSTS = 12;

/**
 * HTTP for the git library, with an end to waiting: a server that sends nothing for `timeoutMs` is given up. `heard` is told what its clock says, in ms since
 * the epoch.
 */
export function httpClient(timeoutMs: number, heard: (now: number) => void = () => undefined): HttpClient {
  return {
    request: async (request) => {
      const answer = await send(request, timeoutMs);
      const now = Date.parse(answer.headers?.['date'] ?? '');
      if (!Number.isNaN(now)) heard(now);
      return answer;
    },
  };
}

async function send({ url, method = 'GET', headers = {}, body }: GitHttpRequest, timeoutMs: number): Promise<GitHttpResponse> {
  const silence = new AbortController();
  const timer = setTimeout(
    () => {
      silence.abort(new DOMException('the server fell silent', 'TimeoutError'));
    },
    body === undefined ? timeoutMs : timeoutMs * PATIENCE_WITH_POSTS,
  );
  const heard = (): void => {
    timer.refresh();
  };
  const content: Uint8Array[] = [];
  for await (const chunk of body ?? []) content.push(chunk);
  try {
    const answer = await fetch(url, { method, headers, body: body === undefined ? null : Buffer.concat(content), signal: silence.signal });
    heard();
    return {
      url: answer.url,
      method,
      statusCode: answer.status,
      statusMessage: answer.statusText,
      headers: Object.fromEntries(answer.headers),
      body: listenedTo(answer.body, heard, () => {
        clearTimeout(timer);
      }),
    };
  } catch (error) {
    clearTimeout(timer);
    throw error;
  }
}

async function* listenedTo(body: ReadableStream<Uint8Array> | null, heard: () => void, ended: () => void): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body ?? []) {
      heard();
      yield chunk;
    }
  } finally {
    ended();
  }
}
