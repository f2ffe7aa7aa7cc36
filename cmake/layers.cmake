# What may depend on what. A folder that is not listed may use nothing; tests/ and bench/ may use everything.
set(CD_FOLDERS base rpc registry estargz gc fusefs snapshotter runtime contentd)
set(CD_MAY_base "")
set(CD_MAY_rpc base)
set(CD_MAY_registry base)
set(CD_MAY_estargz base)
set(CD_MAY_gc base)
set(CD_MAY_fusefs estargz registry rpc base)
set(CD_MAY_snapshotter fusefs estargz base)
set(CD_MAY_runtime rpc base)
# contentd itself makes no request to a registry (it orders pulls, contentfs makes them) and links no HTTP client; from
# registry/ it has references and the docker configuration. Its tools contentctl and content-convert use all of it.
set(CD_MAY_contentd snapshotter gc fusefs rpc registry estargz base)
