import { Miniflare } from 'miniflare';

/** Runs the S3 interface of R2 until the parent goes. Arguments: port, bucket, access key, secret key, directory. */
const [port = '0', bucket = '', accessKeyId = '', secretAccessKey = '', directory = ''] = process.argv.slice(2);

const server = new Miniflare({
  modules: true,
  script: 'export default {}',
  host: '127.0.0.1',
  port: Number(port),
  r2Buckets: { BUCKET: { id: bucket, s3Credentials: { accessKeyId, secretAccessKey } } },
  r2Persist: directory,
  telemetry: { enabled: false },
  cf: false,
});
process.on('disconnect', () => {
  void server.dispose().finally(() => process.exit());
});
await server.ready;
process.send?.('ready');
