export default async function teardown() {
  for (const server of globalThis.testServers) await server.destroy();
}
