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
# contentd itself links no registry client (it orders pulls, contentfs makes them); its tools contentctl and content-convert do.
set(CD_MAY_contentd snapshotter gc fusefs rpc registry estargz base)
