import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFailure, RespReader, saysDeadToken } from '@tokenmirror/cliproxy-client';
import {
  CONFIG_KEY,
  expiryOf,
  issuedOf,
  readConfigDocument,
  readDocument,
  readDocumentKey,
  refreshTokenOf,
  TokenmirrorError,
  type DocumentKey,
  type JsonObject,
} from '@tokenmirror/core';
import { parseKeys, readEnvelope } from '@tokenmirror/encryption';
import { OPTION_NAMES, environmentOf, readSettings, redactionOf } from '@tokenmirror/service';
import { cleanTemporaryDirectories, DaemonProcess, freePort, temporaryDirectory, until } from '@tokenmirror/testkit';

const KEY = 'auths/a.json' as DocumentKey;
const RUNS = 2000;

/** Text as somebody broken or hostile would write it: bytes, JSON, YAML, and pieces of what is expected. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.json(),
  fc.string().map((inner) => `{"type":"claude","access_token":${JSON.stringify(inner)},"expired":${JSON.stringify(inner)}`),
  fc.string().map((inner) => `api-keys:\n  - ${inner}\n&a *a [${inner}: {`),
  fc
    .array(fc.constantFrom('{', '}', '[', ']', '"', ':', ',', '\\u0000', '__proto__', '\n', '- ', '&a', '*a', '!!js', '%', "'"), {
      maxLength: 60,
    })
    .map((parts) => parts.join('')),
);
const value = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.webUrl(),
  fc.constantFrom('off', ':0', '[::]:99999', 'postgres://', 'k:', '~', '~/', ',,,', '-1s'),
);

/** Either a result, or an error that is meant for people. */
function mustAnswer(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(TokenmirrorError);
    expect((error as TokenmirrorError).remedy).not.toBe('');
  }
}

afterAll(cleanTemporaryDirectories);

describe('whatever is read, the answer is a value or an error for people', () => {
  test('documents', () => {
    fc.assert(
      fc.property(text, (content) => {
        for (const key of [KEY, CONFIG_KEY]) {
          const reading = readDocument(key, content);
          if (reading.state === 'document' && reading.document.kind === 'credential') {
            const { fields } = reading.document;
            expect(Object.getPrototypeOf(fields)).toBe(Object.prototype);
            mustAnswer(() => [expiryOf(fields), issuedOf(fields), refreshTokenOf(fields)]);
          }
        }
        readConfigDocument(content);
        readEnvelope(content);
      }),
      { numRuns: RUNS },
    );
  });

  test('bytes that are no text', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(['blank', 'refused', 'document']).toContain(readDocument(KEY, bytes).state);
      }),
      { numRuns: RUNS },
    );
  });

  test('credentials whose fields have any type', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom('type', 'email', 'token', 'access_token', 'refresh_token', 'expired', 'id_token', 'last_refresh'),
          fc.jsonValue(),
        ),
        (fields) => {
          mustAnswer(() => [expiryOf(fields as JsonObject), issuedOf(fields as JsonObject), refreshTokenOf(fields as JsonObject)]);
        },
      ),
      { numRuns: RUNS },
    );
  });

  test('names', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.constantFrom('auths/../x.json', 'auths//x.json', 'auths/%2e%2e.json', 'config/config.yaml/x'),
        ),
        (name) => {
          const reading = readDocumentKey(`auths/${name}`);
          if (reading.ok) expect(reading.key.split('/')).not.toContain('..');
        },
      ),
      { numRuns: RUNS },
    );
  });

  test('options, from the environment and from files', () => {
    const directory = temporaryDirectory('fuzz');
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom(...OPTION_NAMES.flatMap((name) => environmentOf(name))), value, { maxKeys: 4 }),
        (environment) => {
          mustAnswer(() => {
            const settings = readSettings({ flags: {}, environment, directory });
            redactionOf(settings)('a text');
          });
        },
      ),
      { numRuns: RUNS },
    );
    mkdirSync(directory, { recursive: true });
    fc.assert(
      fc.property(text, (content) => {
        writeFileSync(join(directory, 'tokenmirror.yaml'), content);
        writeFileSync(join(directory, '.env'), content);
        mustAnswer(() => readSettings({ flags: {}, environment: {}, directory }));
      }),
      { numRuns: 300 },
    );
  });

  test('keys, and what CLIProxyAPI says', () => {
    fc.assert(
      fc.property(text, (content) => {
        mustAnswer(() => parseKeys(content, 'a test'));
        readFailure(content);
        saysDeadToken(content);
        try {
          new RespReader().read(Buffer.from(content));
        } catch (error) {
          expect(String(error)).toContain('not RESP');
        }
      }),
      { numRuns: RUNS },
    );
  });
});

test('requests of any kind are answered, and the daemon lives on', async () => {
  const port = await freePort();
  const daemon = new DaemonProcess(temporaryDirectory('fuzz-http'), [], {
    TOKENMIRROR_FILESYSTEM_PATH: join(temporaryDirectory('fuzz-store'), 'store'),
    TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(port)}`,
    TOKENMIRROR_HTTP_TOKEN: 'token-for-tests',
  });
  await daemon.start();
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'),
      fc.webPath(),
      fc.constantFrom('', '/status', '/metrics', '/readyz'),
      fc.string({ maxLength: 2000 }),
      async (method, path, prefix, body) => {
        const answer = await fetch(`http://127.0.0.1:${String(port)}${prefix}${path}`, {
          method,
          headers: { 'content-type': 'application/json', authorization: `Bearer ${encodeURIComponent(body)}` },
          ...(method === 'GET' ? {} : { body }),
        });
        expect(answer.status).toBeLessThan(500);
        if (prefix === '/status' || prefix === '/metrics') expect(answer.status).not.toBe(200);
        await answer.text();
      },
    ),
    { numRuns: 300 },
  );
  await until('it lives', async () => (await fetch(`http://127.0.0.1:${String(port)}/livez`)).status === 200);
  expect(await daemon.stop()).toBe(0);
});
