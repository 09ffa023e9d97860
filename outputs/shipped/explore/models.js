explore(["sparse_kl", "sparse_ksparse_k10", "sparse_ksparse_k100", "sparse_ksparse_k25", "sparse_ksparse_k5", "sparse_ksparse_k50", "sparse_l1"]);
