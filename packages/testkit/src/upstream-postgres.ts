import type { TestSchema } from './test-postgres.js';

/** CLIProxyAPI's Postgres store, statement by statement. */
export class UpstreamPostgres {
  readonly #schema: TestSchema;

  constructor(schema: TestSchema) {
    this.#schema = schema;
  }

  /** The tables as CLIProxyAPI makes them. */
  async install(): Promise<void> {
    await this.#schema.query(
      'CREATE TABLE IF NOT EXISTS config_store (id TEXT PRIMARY KEY, content TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW())',
    );
    await this.#schema.query(
      'CREATE TABLE IF NOT EXISTS auth_store (id TEXT PRIMARY KEY, content JSONB NOT NULL, created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW())',
    );
  }

  async saveCredential(id: string, content: string): Promise<void> {
    await this.#schema.query(
      'INSERT INTO auth_store (id, content, created_at, updated_at) VALUES ($1, $2, NOW(), NOW()) ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content, updated_at = NOW()',
      [id, content],
    );
  }

  async deleteCredential(id: string): Promise<void> {
    await this.#schema.query('DELETE FROM auth_store WHERE id = $1', [id]);
  }

  async saveConfig(content: string): Promise<void> {
    await this.#schema.query(
      "INSERT INTO config_store (id, content, created_at, updated_at) VALUES ('config', $1, NOW(), NOW()) ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content, updated_at = NOW()",
      [content.replace(/\r\n?/g, '\n')],
    );
  }

  /** What CLIProxyAPI would write to its local files when it starts from this database. */
  async boot(): Promise<{ credentials: Map<string, unknown>; config: string | undefined }> {
    const credentials = await this.#schema.query<{ id: string; content: unknown }>('SELECT id, content FROM auth_store');
    const [config] = await this.#schema.query<{ content: string }>("SELECT content FROM config_store WHERE id = 'config'");
    return { credentials: new Map(credentials.map(({ id, content }) => [id, content])), config: config?.content };
  }
}
