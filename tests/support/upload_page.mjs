// What a browser has and Node.js has not, for the page's scripts; and a node that answers as tus
// says, but where a test's own `answer` says something else. PAGE and DIGEST stand before it.

const kept = new Map();
globalThis.localStorage = new Proxy({
    getItem: key => kept.get(key) ?? null,
    setItem: (key, value) => { kept.set(key, String(value)); },
    removeItem: key => { kept.delete(key); },
}, { ownKeys: () => [...kept.keys()], getOwnPropertyDescriptor: () => ({
    enumerable: true, configurable: true }) });
globalThis.sessionStorage = localStorage;
globalThis.document = { baseURI: "http://files.example/files/" };
globalThis.addEventListener = globalThis.removeEventListener = () => {};
const soon = setTimeout;
globalThis.setTimeout = (act) => soon(act, 1);
const asked = [];
const node = { held: new Map(), length: new Map() };
let answer = () => null;
function usual(method, path, fields, size) {
    const id = path.split("/").at(-1);
    const gone = { status: 404, fields: {}, text: "" };
    if (method === "OPTIONS") return { status: 204, fields: { "Tus-Version": "1.0.0" } };
    if (method === "PUT") return { status: 201, fields: {}, text: JSON.stringify({ sha512: DIGEST }) };
    if (method === "POST") {
        const made = `id${node.held.size}`;
        node.held.set(made, 0);
        node.length.set(made, Number(fields["Upload-Length"]));
        return { status: 201, fields: { Location: `/files/uploads/${made}` } };
    }
    if (!node.held.has(id)) return gone;
    const over = () => node.held.get(id) === node.length.get(id);
    if (method === "GET") {
        return { status: 200, fields: {}, text: JSON.stringify({ stored: over() ? { sha512: DIGEST } : null }) };
    }
    if (method === "PATCH") {
        const offset = String(node.held.get(id));
        if (fields["Upload-Offset"] !== offset) return { status: 409, fields: { "Upload-Offset": offset } };
        node.held.set(id, node.held.get(id) + size);
    }
    const place = over() ? { "Content-Location": `/${DIGEST}` } : {};
    const held = { "Upload-Offset": String(node.held.get(id)) };
    return { status: method === "PATCH" ? 204 : 200, fields: { ...held, ...place } };
}
globalThis.XMLHttpRequest = class {
    upload = {};
    fields = {};
    open(method, url) { this.method = method; this.path = url.replace("http://files.example/files/", ""); }
    setRequestHeader(name, value) { this.fields[name] = value; }
    getResponseHeader(name) { return this.told.fields?.[name] ?? null; }
    abort() { this.aborted = true; this.onabort?.(); }
    send(body) {
        const size = body?.size ?? body?.byteLength ?? 0;
        const offset = this.fields["Upload-Offset"];
        asked.push(`${this.method} ${this.path}` + (offset ? ` ${offset}` : ""));
        soon(() => {
            if (this.aborted) return;
            const request = [this.method, this.path, this.fields, size];
            this.told = answer(...request) ?? usual(...request);
            this.status = this.told.status;
            this.responseText = this.told.text ?? "";
            if (this.told.status === 0) this.onerror(); else this.onload();
            this.onloadend();
        }, 1);
    }
};
const { Upload } = await import(`${PAGE}/resumable.js`);
const file = (size, name = "film.mkv") =>
    Object.assign(new Blob([new Uint8Array(size)]), { name, lastModified: 7 });
const once = (so, what) => {
    let done = false;
    return (...told) => (!done && so(...told) ? ((done = true), what) : null);
};
async function sent(upload) { await upload.run(); return upload; }
